"""Runs that a guard holds, looked at again at once when what held them may be over."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import or_, select

from remediator.records import runs
from remediator.run import Status
from remediator.stores import Tx
from remediator.stores.schema import runs as table


def wake(tx: Tx, guards: Collection[str]) -> int:
    """Have the runs looked at that one of these guards holds; returns how many."""
    if not guards:
        return 0
    held = or_(*(table.c.reason.startswith(f"{name}:", autoescape=True) for name in guards))
    ids = list(tx.connection.execute(select(table.c.id).where(table.c.status == Status.BLOCKED.value, held)).scalars())
    runs.poke(tx, ids)
    return len(ids)
