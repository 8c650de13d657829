"""Attempts: the write-ahead intent of every action, and its outcome."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import Connection, Integer, Row, Select, bindparam, insert, literal_column, select, union_all, update

from remediator.audit import Kind
from remediator.core.run import Run
from remediator.storage import Tx
from remediator.storage.column_types import Instant
from remediator.storage.prepared import Prepared
from remediator.storage.repositories import runs
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
    tx.connection.execute(_INSERT, columns)
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


_INSERT = Prepared(insert(table))


def record_outcome(tx: Tx, run: Run, attempt: Attempt, outcome: str, result: Mapping[str, Any], actor: str) -> None:
    """Record the outcome of an action."""
    values = {"its_id": attempt.id, "outcome": outcome, "outcome_at": tx.now, "result": tx.redact(dict(result))}
    tx.connection.execute(_END, values)
    data = {"attempt": attempt.id, "step": attempt.step, "action": attempt.action, "outcome": outcome, **result}
    tx.append_audit(runs.draft(Kind.ACTION_OUTCOME, run, actor, data))


_END = Prepared(
    update(table)
    .where(table.c.id == bindparam("its_id"))
    .values({name: bindparam(name, type_=table.c[name].type) for name in ("outcome", "outcome_at", "result")})
)


def list_for_run(connection: Connection, run_id: str) -> list[Attempt]:
    """Return the attempts of a run, oldest first."""
    rows = connection.execute(_OF_RUN, {"run": run_id})
    return [_attempt(row) for row in rows]


_OF_RUN = Prepared(select(table).where(table.c.run_id == bindparam("run")).order_by(table.c.intent_at, table.c.id))


def get_in_flight(connection: Connection, run_id: str) -> Attempt | None:
    """Return the run's attempt that has no outcome yet; None if there is none."""
    row = connection.execute(_IN_FLIGHT, {"run": run_id}).first()
    return None if row is None else _attempt(row)


_IN_FLIGHT = Prepared(select(table).where(table.c.run_id == bindparam("run"), table.c.outcome.is_(None)))


@dataclass(frozen=True, slots=True)
class Scope:
    """The actions that a limit counts, and the number of runs that reaches it."""

    since: datetime
    limit: int
    target: str | None = None
    playbook: str | None = None


def list_reached(connection: Connection, scopes: Sequence[Scope], other_than: str) -> list[int]:
    """Return the positions of the scopes in which other runs started at least as many actions as the limit.

    In all other scopes, fewer runs than the limit have acted. No row is read.
    """
    if not scopes:
        return []
    values = _values(scopes, other_than) | {f"skip_{number}": scope.limit - 1 for number, scope in enumerate(scopes)}
    return list(connection.execute(_reached(_forms(scopes)), values).scalars())


def list_last_acting(
    connection: Connection, scopes: Sequence[Scope], other_than: str
) -> list[list[tuple[datetime, str]]]:
    """Return for each scope the other runs that acted last, as (time of the last action, run ID), newest first.

    A run counts once, regardless of its number of steps. The cost does not grow with the number of actions in a scope.

    Args:
        connection: to the store.
        scopes: what to count.
        other_than: the run that does not count.
    """
    found: list[list[tuple[datetime, str]]] = []
    rows_each = 2 * max((scope.limit for scope in scopes), default=0) + 8
    for scope, rows in zip(scopes, _newest_rows(connection, scopes, other_than, rows_each), strict=True):
        most = rows_each
        while len(last := _last_by_run(rows)) < scope.limit and len(rows) == most:  # each run may have many actions
            most *= 4
            [rows] = _newest_rows(connection, [scope], other_than, most)
        found.append(last[: scope.limit])
    return found


def _last_by_run(rows: Sequence[tuple[datetime, str]]) -> list[tuple[datetime, str]]:
    last: dict[str, datetime] = {}
    for at, run_id in rows:
        last.setdefault(run_id, at)
    return [(at, run_id) for run_id, at in last.items()]


def _newest_rows(
    connection: Connection, scopes: Sequence[Scope], other_than: str, most: int
) -> list[list[tuple[datetime, str]]]:
    found: list[list[tuple[datetime, str]]] = [[] for _ in scopes]
    if not scopes:
        return found
    values = _values(scopes, other_than) | {"most": most}
    for number, at, run_id in connection.execute(_newest(_forms(scopes)), values):
        found[number].append((at, run_id))
    return found


_Forms = tuple[tuple[bool, bool], ...]
"""Whether each scope has a target, and a playbook. A statement for scopes of the same forms is built once."""


def _forms(scopes: Sequence[Scope]) -> _Forms:
    return tuple((scope.target is not None, scope.playbook is not None) for scope in scopes)


def _values(scopes: Sequence[Scope], other_than: str) -> dict[str, Any]:
    values: dict[str, Any] = {"other_than": other_than}
    for number, scope in enumerate(scopes):
        values |= {f"since_{number}": scope.since, f"target_{number}": scope.target}
        values[f"playbook_{number}"] = scope.playbook
    return values


@cache
def _newest(forms: _Forms) -> Prepared:
    parts = []
    for number, chosen in _chosen(forms):
        part = chosen.limit(bindparam("most", type_=Integer)).subquery()
        parts.append(select(literal_column(str(number), Integer), part.c.intent_at, part.c.run_id))
    return Prepared(parts[0] if len(parts) == 1 else union_all(*parts))


@cache
def _reached(forms: _Forms) -> Prepared:
    parts = []
    for number, chosen in _chosen(forms):
        part = chosen.limit(1).offset(bindparam(f"skip_{number}", type_=Integer)).subquery()
        parts.append(select(literal_column(str(number), Integer)).select_from(part))
    return Prepared(parts[0] if len(parts) == 1 else union_all(*parts))


def _chosen(forms: _Forms) -> Iterator[tuple[int, Select[Any]]]:
    """Yield for each scope its number, and the query of its actions, the newest first."""
    for number, (by_target, by_playbook) in enumerate(forms):
        chosen = [
            table.c.mutates,
            ~table.c.is_undo,
            table.c.intent_at > bindparam(f"since_{number}", type_=Instant),
            table.c.run_id != bindparam("other_than"),
        ]
        if by_target:
            chosen.append(table.c.target == bindparam(f"target_{number}"))
        if by_playbook:
            chosen.append(table.c.playbook == bindparam(f"playbook_{number}"))
        yield number, select(table.c.intent_at, table.c.run_id).where(*chosen).order_by(table.c.intent_at.desc())


def _attempt(row: Row[Any]) -> Attempt:
    return Attempt(**row._asdict())
