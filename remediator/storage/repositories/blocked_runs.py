"""Runs that a guard holds, looked at again at once when what held them may be over."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import ColumnElement, Connection, Text, func, or_, select, type_coerce

from remediator.core.run import Run, Status
from remediator.storage import Tx
from remediator.storage.repositories import runs
from remediator.storage.schema import runs as table

_HELD = table.c.status == Status.BLOCKED.value
_FEW = 4
"""Runs looked at for each hand that is let go: one can have it, the others are for those that something else holds."""


def schedule_now(tx: Tx, guards: Collection[str]) -> int:
    """Have the runs looked at that one of these guards holds; returns how many."""
    if not guards:
        return 0
    return _wake(tx, list(tx.connection.execute(select(table.c.id).where(_HELD, _by(guards))).scalars()))


def schedule_next(tx: Tx, guards: Collection[str], over: Run) -> int:
    """A run is over: have those looked at that it alone held (its target's, its symptoms'), and of the others that
    one of these guards holds the few whose next look is nearest. To look at all of them each time would be thousands
    of runs squared.

    Returns:
        how many.
    """
    if not guards:
        return 0
    by_it = type_coerce(table.c.detail, Text).contains(f'"run":"{over.id}"', autoescape=True)  # a verdict's input
    its_own = select(table.c.id).where(_HELD, _by(guards), or_(table.c.target == over.target, by_it))
    next_ones = select(table.c.id).where(_HELD, _by(guards)).order_by(table.c.wake_at, table.c.id).limit(_FEW)
    next_ones = next_ones.with_for_update(skip_locked=True)  # those that another replica is about to wake
    found = [*tx.connection.execute(its_own).scalars(), *tx.connection.execute(next_ones).scalars()]
    return _wake(tx, list(dict.fromkeys(found)))


def count(connection: Connection) -> int:
    """How many runs are held."""
    return int(connection.execute(select(func.count()).select_from(table).where(_HELD)).scalar_one())


def _by(guards: Collection[str]) -> ColumnElement[bool]:
    return or_(*(table.c.reason.startswith(f"{name}:", autoescape=True) for name in guards))


def _wake(tx: Tx, ids: list[str]) -> int:
    runs.notify(tx, ids)
    return len(ids)
