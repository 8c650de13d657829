"""Attempts: the write-ahead intent of every action, and its outcome."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import Connection, Row, Select, bindparam, insert, select, update

from remediator.audit import Kind
from remediator.core.run import Run
from remediator.storage import Tx
from remediator.storage.repositories import runs
from remediator.storage.schema import Instant
from remediator.storage.schema import attempts as table


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt of one step. ``outcome`` is None while the call is in flight, or if its process died."""

    id: str
    run_id: str
    step: str
    number: int
    action: str
    playbook: str
    target: str
    mutates: bool
    is_undo: bool
    call: Mapping[str, Any]
    fence: int
    intent_at: datetime
    outcome: str | None
    outcome_at: datetime | None
    result: Mapping[str, Any] | None


def record_intent(tx: Tx, run: Run, attempt: Attempt, actor: str, *, assumed: bool = False) -> None:
    """Record the intent of an action. It must be committed before the action is called.

    Args:
        tx: the transaction.
        run: the run.
        attempt: the attempt.
        actor: the replica.
        assumed: the call is not made now; it may have been made before the database was replaced.
    """
    columns = {name: getattr(attempt, name) for name in Attempt.__dataclass_fields__}
    tx.connection.execute(insert(table), columns)
    data = {
        "attempt": attempt.id,
        "step": attempt.step,
        "number": attempt.number,
        "action": attempt.action,
        "target": attempt.target,
        "is_undo": attempt.is_undo,
        "call": attempt.call,
    }
    if assumed:
        data["assumed"] = True
    tx.append_audit(runs.draft(Kind.ACTION_INTENDED, run, actor, data))


def record_outcome(tx: Tx, run: Run, attempt: Attempt, outcome: str, result: Mapping[str, Any], actor: str) -> None:
    """Record the outcome of an action."""
    values = {"outcome": outcome, "outcome_at": tx.now, "result": tx.redact(dict(result))}
    tx.connection.execute(update(table).where(table.c.id == attempt.id).values(**values))
    data = {"attempt": attempt.id, "step": attempt.step, "action": attempt.action, "outcome": outcome, **result}
    tx.append_audit(runs.draft(Kind.ACTION_OUTCOME, run, actor, data))


def list_for_run(connection: Connection, run_id: str) -> list[Attempt]:
    """Return the attempts of a run, oldest first."""
    rows = connection.execute(_OF_RUN, {"run": run_id})
    return [_attempt(row) for row in rows]


_OF_RUN = select(table).where(table.c.run_id == bindparam("run")).order_by(table.c.intent_at, table.c.id)


def get_in_flight(connection: Connection, run_id: str) -> Attempt | None:
    """Return the attempt of a run without an outcome, or None."""
    row = connection.execute(select(table).where(table.c.run_id == run_id, table.c.outcome.is_(None))).first()
    return None if row is None else _attempt(row)


def list_started_since(
    connection: Connection, since: datetime, *, target: str | None = None, playbook: str | None = None
) -> list[tuple[datetime, str]]:
    """Return (time, run ID) of each run that started a mutating action after ``since``, newest first.

    The guards rate_limit and cooldown count these. A run counts once, with its first action, however many steps it has.
    """
    asked = {"since": since, "target": target, "playbook": playbook}
    given = {name: value for name, value in asked.items() if value is not None}
    first: dict[str, datetime] = {}
    for row in connection.execute(_begun_since(tuple(given)), given):
        first[row.run_id] = min(row.intent_at, first.get(row.run_id, row.intent_at))
    return sorted(((at, run_id) for run_id, at in first.items()), reverse=True)


@cache
def _begun_since(given: tuple[str, ...]) -> Select[tuple[datetime, str]]:
    """Build the statement for these conditions once: guards run it a dozen times before each action."""
    conditions = [table.c.mutates, ~table.c.is_undo, table.c.intent_at > bindparam("since", type_=Instant)]
    conditions += [table.c[name] == bindparam(name) for name in given if name != "since"]
    return select(table.c.intent_at, table.c.run_id).where(*conditions)


def _attempt(row: Row[Any]) -> Attempt:
    return Attempt(**row._mapping)
