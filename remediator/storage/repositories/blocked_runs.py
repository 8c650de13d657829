"""Runs that a guard blocks: evaluate them again as soon as what blocked them may be over."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import ColumnElement, Connection, func, or_, select

from remediator.core.run import Run, Status
from remediator.storage import Tx
from remediator.storage.repositories import runs
from remediator.storage.schema import runs as table

_BLOCKED = table.c.status == Status.BLOCKED.value
_FEW = 4
"""Runs scheduled for each released target lock: one can take it, the others may be blocked by something else."""


def schedule_now(tx: Tx, guards: Collection[str]) -> int:
    """Schedule the runs that one of these guards blocks; returns their number."""
    return _schedule(tx, list(tx.connection.execute(select(table.c.id).where(_BLOCKED, _by(guards))).scalars()))


def schedule_next(tx: Tx, guards: Collection[str], finished: Run) -> int:
    """Schedule runs after the end of another one; returns their number.

    All runs that it alone blocked are scheduled: those of its target, and those whose guard names it. Of the others
    that one of these guards blocks, only the few whose next evaluation is nearest: to schedule all of them each time
    would be thousands of runs squared.
    """
    by_it = or_(table.c.target == finished.target, table.c.blocked_by_run == finished.id)
    its_own = select(table.c.id).where(_BLOCKED, _by(guards), by_it)
    next_ones = select(table.c.id).where(_BLOCKED, _by(guards)).order_by(table.c.wake_at, table.c.id).limit(_FEW)
    next_ones = next_ones.with_for_update(skip_locked=True)  # those that another replica is about to schedule
    found = [*tx.connection.execute(its_own).scalars(), *tx.connection.execute(next_ones).scalars()]
    return _schedule(tx, list(dict.fromkeys(found)))


def count(connection: Connection) -> int:
    """Return the number of blocked runs."""
    return int(connection.execute(select(func.count()).select_from(table).where(_BLOCKED)).scalar_one())


def _by(guards: Collection[str]) -> ColumnElement[bool]:
    return table.c.blocked_by.in_(list(guards))


def _schedule(tx: Tx, ids: list[str]) -> int:
    runs.notify(tx, ids)
    return len(ids)
