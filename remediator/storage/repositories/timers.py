"""Durable timers for work that is due later, even if the process dies before.

A temporary step is undone when its time is over. A successful run is checked for recurrence of its alert.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, bindparam, insert, select, update

from remediator.core.ids import Ids
from remediator.core.run import TERMINAL, Run
from remediator.storage import Tx
from remediator.storage.column_types import Instant
from remediator.storage.prepared import Prepared
from remediator.storage.schema import runs
from remediator.storage.schema import timers as table

UNDO = "undo"
"""Kind: undo a step."""
RECURRENCE_CHECK = "still_firing"
"""Kind: check whether a successful run has helped."""
ESCALATION = "escalation"
"""Kind: notify people of a run, if its alerts still fire."""
_OVER = sorted(status.value for status in TERMINAL)


@dataclass(frozen=True, slots=True)
class UndoRequest:
    """Who requested an undo."""

    person: str
    confirmed: bool
    """The person typed the name of the target, so that the undo may lose data or exceed the tolerance."""


@dataclass(frozen=True, slots=True)
class Timer:
    """A step to undo at a time; for a recurrence check, ``step`` is empty."""

    id: str
    run_id: str
    target: str
    step: str
    due_at: datetime
    tries: int
    request: UndoRequest | None = None
    """For an undo: the request of a person; None if the undo was scheduled by the playbook."""
    later_run: str = ""
    """For a recurrence check: the later run of the same playbook and target that suggests a relapse; or empty."""


def schedule_undo(tx: Tx, ids: Ids, run: Run, step: str, after: timedelta) -> None:
    """Undo a step after this time."""
    _put(tx, ids, UNDO, run, step, after)


def request_undo(tx: Tx, ids: Ids, run: Run, step: str, request: UndoRequest, after: timedelta) -> None:
    """Undo a step after this time, because a person requests it."""
    content = {"person": request.person, "confirmed": request.confirmed}
    _put(tx, ids, UNDO, run, step, after, {"request": content})


def list_requested_undos(connection: Connection, run_id: str) -> list[Timer]:
    """Return the undos of a run that people requested and that are not done."""
    waiting = select(table).where(table.c.run_id == run_id, table.c.done_at.is_(None), table.c.kind == UNDO)
    found = [_timer(row) for row in connection.execute(waiting.order_by(table.c.due_at))]
    return [item for item in found if item.request is not None]


def complete_recurrence_check(tx: Tx, run_id: str) -> None:
    """Stop watching whether a succeeded run has helped."""
    tx.connection.execute(_STOP_WATCHING, {"run": run_id, "now": tx.now})


_STOP_WATCHING = Prepared(
    update(table)
    .where(table.c.run_id == bindparam("run"), table.c.kind == RECURRENCE_CHECK, table.c.done_at.is_(None))
    .values(done_at=bindparam("now", type_=Instant))
)


def schedule_recurrence_check(tx: Tx, ids: Ids, run: Run, after: timedelta, later_run: str = "") -> None:
    """Check after this time whether this run has helped, or whether a later run shows that it has not."""
    _put(tx, ids, RECURRENCE_CHECK, run, "", after, {"later_run": later_run} if later_run else {})


def schedule_escalation(tx: Tx, ids: Ids, run: Run, after: timedelta) -> None:
    """Notify people of this run after this time, if its alerts still fire then."""
    _put(tx, ids, ESCALATION, run, "", after)


def list_due_recurrence_checks(connection: Connection, now: datetime) -> list[Timer]:
    """Return the recurrence checks that are due, the longest overdue first."""
    return _due(connection, RECURRENCE_CHECK, now)


def list_due_escalations(connection: Connection, now: datetime) -> list[Timer]:
    """Return the escalations that are due, the longest overdue first."""
    return _due(connection, ESCALATION, now)


def _due(connection: Connection, kind: str, now: datetime) -> list[Timer]:
    return [_timer(row) for row in connection.execute(_DUE, {"now": now, "kind": kind})]


_DUE = Prepared(
    select(table)
    .where(
        table.c.done_at.is_(None),
        table.c.due_at <= bindparam("now", type_=Instant),
        table.c.kind == bindparam("kind"),
    )
    .order_by(table.c.due_at)
    .limit(100)
)


def complete(tx: Tx, timer: Timer) -> bool:
    """Mark a timer as done. Return False if another replica did it, or moved it."""
    return _take(tx, timer, _COMPLETE, tx.now)


def postpone(tx: Tx, timer: Timer, until: datetime) -> bool:
    """Move a timer to a later time. Return False if another replica did it."""
    return _take(tx, timer, _POSTPONE, until)


def _take(tx: Tx, timer: Timer, change: Prepared, at: datetime) -> bool:
    return bool(tx.connection.execute(change, {"its_id": timer.id, "was_due_at": timer.due_at, "new": at}).rowcount)


_MINE = update(table).where(
    table.c.id == bindparam("its_id"), table.c.done_at.is_(None), table.c.due_at == bindparam("was_due_at")
)
_NEW = bindparam("new", type_=Instant)
_COMPLETE, _POSTPONE = Prepared(_MINE.values(done_at=_NEW)), Prepared(_MINE.values(due_at=_NEW))


def list_due_undos(connection: Connection, now: datetime) -> list[Timer]:
    """Return the undos that are due, of ended runs only: an open run alone acts on its target."""
    return [_timer(row) for row in connection.execute(_DUE_UNDOS, {"now": now})]


_DUE_UNDOS = Prepared(
    select(table)
    .where(
        table.c.done_at.is_(None),
        table.c.due_at <= bindparam("now", type_=Instant),
        table.c.kind == UNDO,
        table.c.run_id.in_(select(runs.c.id).where(runs.c.status.in_(_OVER))),
    )
    .order_by(table.c.due_at)
    .limit(20)
)


def reschedule(tx: Tx, timer: Timer, at: datetime, *, tried: bool) -> None:
    """Move a timer to another time."""
    content: dict[str, Any] = {"step": timer.step, "tries": timer.tries + tried}
    if timer.request is not None:
        content["request"] = {"person": timer.request.person, "confirmed": timer.request.confirmed}
    tx.connection.execute(update(table).where(table.c.id == timer.id).values(due_at=at, content=content))


def complete_undo(tx: Tx, run_id: str, step: str) -> None:
    """Mark the undo of a step as done: it succeeded, or it was escalated."""
    of_run = select(table).where(table.c.run_id == run_id, table.c.done_at.is_(None), table.c.kind == UNDO)
    rows = tx.connection.execute(of_run)
    ids = [row.id for row in rows if row.content["step"] == step]
    tx.connection.execute(update(table).where(table.c.id.in_(ids)).values(done_at=tx.now))


def _timer(row: Row[Any]) -> Timer:
    content = row.content
    asked = content.get("request")
    request = None if asked is None else UndoRequest(str(asked["person"]), bool(asked["confirmed"]))
    later_run, tries = str(content.get("later_run", "")), int(content["tries"])
    return Timer(row.id, row.run_id, row.target, str(content["step"]), row.due_at, tries, request, later_run)


def _put(
    tx: Tx,
    ids: Ids,
    kind: str,
    run: Run,
    step: str,
    after: timedelta,
    more: Mapping[str, Any] | None = None,
) -> None:
    values = {"id": ids.new("timer", tx.now), "kind": kind, "run_id": run.id, "target": run.target}
    content = {"step": step, "tries": 0, **(more or {})}
    tx.connection.execute(_INSERT, {**values, "content": content, "due_at": tx.now + after})


_INSERT = Prepared(insert(table))
