"""Durable timers: what has to be done later by itself, whatever dies until then.

A temporary measure is put back when its time is over; a success is looked at once more when its alert should be gone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from remediator.core.ids import Ids
from remediator.core.run import TERMINAL, Run
from remediator.storage import Tx
from remediator.storage.schema import runs
from remediator.storage.schema import timers as table

UNDO = "undo"
"""Kind: a step to be put back."""
RECURRENCE_CHECK = "still_firing"
"""Kind: whether the alerts of a run that succeeded are over by then."""
_OVER = sorted(status.value for status in TERMINAL)


@dataclass(frozen=True, slots=True)
class Timer:
    """One step of one run that is to be put back at a time; for a look at a success, the step is empty."""

    id: str
    run_id: str
    target: str
    step: str
    due_at: datetime
    tries: int


def schedule_undo(tx: Tx, ids: Ids, run: Run, step: str, after: timedelta) -> None:
    """Put this step back so long from now."""
    _put(tx, ids, UNDO, run, step, after)


def schedule_recurrence_check(tx: Tx, ids: Ids, run: Run, after: timedelta) -> None:
    """Look so long from now whether the alerts of this run are over."""
    _put(tx, ids, RECURRENCE_CHECK, run, "", after)


def list_due_recurrence_checks(connection: Connection, now: datetime) -> list[Timer]:
    """The successes that are to be looked at now, the longest overdue first."""
    waiting = select(table).where(table.c.done_at.is_(None), table.c.due_at <= now, table.c.kind == RECURRENCE_CHECK)
    return [_timer(row) for row in connection.execute(waiting.order_by(table.c.due_at).limit(100))]


def complete(tx: Tx, timer: Timer) -> bool:
    """It was looked at; False if somebody else did."""
    mine = update(table).where(table.c.id == timer.id, table.c.done_at.is_(None)).values(done_at=tx.now)
    return bool(tx.connection.execute(mine).rowcount)


def list_due_undos(connection: Connection, now: datetime) -> list[Timer]:
    """Those whose time has come, of runs that are over: while a run goes on, it alone acts on its target."""
    over = select(runs.c.id).where(runs.c.status.in_(_OVER))
    waiting = select(table).where(
        table.c.done_at.is_(None), table.c.due_at <= now, table.c.kind == UNDO, table.c.run_id.in_(over)
    )
    return [_timer(row) for row in connection.execute(waiting.order_by(table.c.due_at).limit(20))]


def list_pending_undos(connection: Connection) -> list[Timer]:
    """All measures that have not been put back."""
    open_ones = select(table).where(table.c.done_at.is_(None), table.c.kind == UNDO)
    rows = connection.execute(open_ones.order_by(table.c.due_at))
    return [_timer(row) for row in rows]


def reschedule(tx: Tx, timer: Timer, at: datetime, *, tried: bool) -> None:
    """Look again then."""
    content: Mapping[str, Any] = {"step": timer.step, "tries": timer.tries + tried}
    tx.connection.execute(update(table).where(table.c.id == timer.id).values(due_at=at, content=dict(content)))


def complete_undo(tx: Tx, run_id: str, step: str) -> None:
    """This step is put back, or people know that it is not; no timer is needed any more."""
    of_run = select(table).where(table.c.run_id == run_id, table.c.done_at.is_(None), table.c.kind == UNDO)
    rows = tx.connection.execute(of_run)
    ids = [row.id for row in rows if row.content["step"] == step]
    tx.connection.execute(update(table).where(table.c.id.in_(ids)).values(done_at=tx.now))


def _timer(row: Row[Any]) -> Timer:
    content = row.content
    return Timer(row.id, row.run_id, row.target, str(content["step"]), row.due_at, int(content["tries"]))


def _put(tx: Tx, ids: Ids, kind: str, run: Run, step: str, after: timedelta) -> None:
    tx.connection.execute(
        insert(table).values(
            id=ids.new("timer", tx.now),
            kind=kind,
            run_id=run.id,
            target=run.target,
            content={"step": step, "tries": 0},
            due_at=tx.now + after,
        )
    )
