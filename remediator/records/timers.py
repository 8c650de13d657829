"""Timers: what has to be done later by itself. A temporary measure is put back when its time is over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from remediator.ids import Ids
from remediator.run import TERMINAL, Run
from remediator.stores import Tx
from remediator.stores.schema import runs
from remediator.stores.schema import timers as table

UNDO = "undo"
_OVER = sorted(status.value for status in TERMINAL)


@dataclass(frozen=True, slots=True)
class Timer:
    """One step of one run that is to be put back at a time."""

    id: str
    run_id: str
    target: str
    step: str
    due_at: datetime
    tries: int


def set_undo(tx: Tx, ids: Ids, run: Run, step: str, after: timedelta) -> None:
    """Put this step back so long from now."""
    tx.connection.execute(
        insert(table).values(
            id=ids.new("timer", tx.now),
            kind=UNDO,
            run_id=run.id,
            target=run.target,
            content={"step": step, "tries": 0},
            due_at=tx.now + after,
        )
    )


def due(connection: Connection, now: datetime) -> list[Timer]:
    """Those whose time has come, of runs that are over: while a run goes on, it alone acts on its target."""
    over = select(runs.c.id).where(runs.c.status.in_(_OVER))
    waiting = select(table).where(table.c.done_at.is_(None), table.c.due_at <= now, table.c.run_id.in_(over))
    return [_timer(row) for row in connection.execute(waiting.order_by(table.c.due_at).limit(20))]


def standing(connection: Connection) -> list[Timer]:
    """All that have not been seen to."""
    rows = connection.execute(select(table).where(table.c.done_at.is_(None)).order_by(table.c.due_at))
    return [_timer(row) for row in rows]


def later(tx: Tx, timer: Timer, at: datetime, *, tried: bool) -> None:
    """Look again then."""
    content: Mapping[str, Any] = {"step": timer.step, "tries": timer.tries + tried}
    tx.connection.execute(update(table).where(table.c.id == timer.id).values(due_at=at, content=dict(content)))


def done(tx: Tx, run_id: str, step: str) -> None:
    """This step is put back, or people know that it is not; no timer is needed any more."""
    rows = tx.connection.execute(select(table).where(table.c.run_id == run_id, table.c.done_at.is_(None)))
    ids = [row.id for row in rows if row.content["step"] == step]
    tx.connection.execute(update(table).where(table.c.id.in_(ids)).values(done_at=tx.now))


def _timer(row: Row[Any]) -> Timer:
    content = row.content
    return Timer(row.id, row.run_id, row.target, str(content["step"]), row.due_at, int(content["tries"]))
