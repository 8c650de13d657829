"""Runs that a guard blocks: evaluate them again as soon as the block may be over."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import Connection, bindparam, func, or_, select

from remediator.core.run import Run, Status
from remediator.storage import Tx
from remediator.storage.prepared import Prepared
from remediator.storage.repositories import runs
from remediator.storage.schema import runs as table

_FEW = 4
"""Runs scheduled for each released target lock: one run can take it, and other runs may be blocked for another reason.
"""


def schedule_now(tx: Tx, guards: Collection[str]) -> int:
    """Schedule the runs that one of these guards blocks; returns their number."""
    return _schedule(tx, list(tx.connection.execute(_BLOCKED_BY, {"guards": list(guards)}).scalars()))


_BLOCKED = table.c.status == Status.BLOCKED.value
_IDS = select(table.c.id).where(_BLOCKED, table.c.blocked_by.in_(bindparam("guards", expanding=True)))
_BLOCKED_BY = Prepared(_IDS)


def schedule_next(tx: Tx, guards: Collection[str], finished: Run) -> int:
    """Schedule runs after the end of another run; returns their number.

    All runs that only this run blocked are scheduled: the runs of its target, and the runs whose guard names it. Of the
    other runs that one of these guards blocks, only the few with the nearest evaluation are scheduled. To schedule all
    of them each time would cost the square of thousands of runs.
    """
    by = {"guards": list(guards)}
    its_own = tx.connection.execute(_BLOCKED_BY_RUN, {**by, "target": finished.target, "run": finished.id}).scalars()
    return _schedule(tx, list(dict.fromkeys([*its_own, *tx.connection.execute(_NEXT_ONES, by).scalars()])))


_BLOCKED_BY_RUN = Prepared(
    _IDS.where(or_(table.c.target == bindparam("target"), table.c.blocked_by_run == bindparam("run")))
)
_NEXT_ONES = Prepared(
    _IDS.order_by(table.c.wake_at, table.c.id)
    .limit(_FEW)
    .with_for_update(skip_locked=True)  # skip runs that another replica is about to schedule
)


def count(connection: Connection) -> int:
    """Return the number of blocked runs."""
    return int(connection.execute(_COUNT).scalar_one())


_COUNT = Prepared(select(func.count()).select_from(table).where(_BLOCKED))


def _schedule(tx: Tx, ids: list[str]) -> int:
    runs.notify(tx, ids)
    return len(ids)
