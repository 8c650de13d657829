"""Evidence of checks and verdicts of guards."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, bindparam, insert, select

from remediator.audit import Draft, Kind
from remediator.core.run import Run
from remediator.storage import Tx
from remediator.storage.column_types import as_stored
from remediator.storage.prepared import Prepared
from remediator.storage.repositories import runs
from remediator.storage.schema import evidence as table
from remediator.storage.schema import verdicts


@dataclass(frozen=True, slots=True)
class EvidenceRecord:
    """One observation of a run, for example the result of a check."""

    phase: str
    name: str
    status: str
    summary: str
    facts: Mapping[str, Any]
    at: datetime


def add(tx: Tx, run: Run, seen: Iterable[EvidenceRecord], actor: str) -> None:
    """Store observations, each with an audit entry."""
    items = [redacted(found, tx.redact) for found in seen]
    insert_all(tx, run.id, items)
    for item in items:
        tx.append_audit(draft_of(run, item, actor))


def redacted(found: EvidenceRecord, redact: Callable[[Any], Any]) -> EvidenceRecord:
    """Return an observation without secrets, as it is stored."""
    return replace(found, summary=redact(found.summary), facts=as_stored(redact(found.facts)))


def insert_all(tx: Tx, run_id: str, items: Sequence[EvidenceRecord]) -> None:
    """Insert redacted observations of a run, in this order."""
    if items:
        names = EvidenceRecord.__dataclass_fields__
        rows = [{"run_id": run_id, **{name: getattr(item, name) for name in names}} for item in items]
        tx.connection.execute(_INSERT, rows)


_INSERT = Prepared(insert(table))


def draft_of(run: Run, item: EvidenceRecord, actor: str) -> Draft:
    """Return the audit entry of a redacted observation. It has the digest of the facts; the row has the facts."""
    data = {"phase": item.phase, "name": item.name, "status": item.status, "summary": item.summary}
    facts = json.dumps(item.facts, sort_keys=True, default=str).encode()
    return runs.draft(Kind.EVIDENCE, run, actor, data | {"facts": facts})


def list_for_run(connection: Connection, run_id: str) -> list[EvidenceRecord]:
    """Return the observations of a run, oldest first."""
    return [EvidenceRecord(*row) for row in connection.execute(_OF_RUN, {"run": run_id})]


_OF_RUN = Prepared(
    select(table.c.phase, table.c.name, table.c.status, table.c.summary, table.c.facts, table.c.at)
    .where(table.c.run_id == bindparam("run"))
    .order_by(table.c.id)
)


def established_causes(seen: Sequence[EvidenceRecord]) -> tuple[str, ...]:
    """Return the IDs of the typed causes that the newest diagnosis points to, in the order of the playbook."""
    diagnosed = [item.at for item in seen if item.phase == "diagnose"]
    concluded = [item for item in seen if item.phase == "conclude"]
    newest = max((item.at for item in concluded), default=None)
    if newest is None or (diagnosed and newest < max(diagnosed)):
        return ()  # the newest diagnosis points to nothing
    return tuple(item.name for item in concluded if item.at == newest and item.facts.get("typed"))


@dataclass(frozen=True, slots=True)
class StoredVerdict:
    """The verdict of one guard."""

    at: datetime
    phase: str
    step: str | None
    guard: str
    answer: str
    reason: str | None
    inputs: Mapping[str, Any]


def add_verdicts(tx: Tx, run: Run, judged: Iterable[StoredVerdict], actor: str) -> None:
    """Store the verdicts of one evaluation: one row each, and one audit entry for all."""
    items = list(judged)
    if items:
        insert_verdicts(tx, run.id, items)
        tx.append_audit(draft_of_verdicts(run, items, actor))


def insert_verdicts(tx: Tx, run_id: str, items: Sequence[StoredVerdict]) -> None:
    """Insert verdicts of a run, in this order."""
    if items:
        names = StoredVerdict.__dataclass_fields__
        rows = [{"run_id": run_id, **{name: getattr(item, name) for name in names}} for item in items]
        tx.connection.execute(_INSERT_VERDICTS, rows)


_INSERT_VERDICTS = Prepared(insert(verdicts))


def draft_of_verdicts(run: Run, items: Sequence[StoredVerdict], actor: str) -> Draft:
    """Return the audit entry of the verdicts of one evaluation."""
    listed = [
        {"guard": item.guard, "answer": item.answer, "reason": item.reason, "inputs": item.inputs} for item in items
    ]
    data = {"phase": items[0].phase, "step": items[0].step, "verdicts": listed}
    return runs.draft(Kind.GUARD_VERDICT, run, actor, data)


def list_verdicts(connection: Connection, run_id: str) -> list[StoredVerdict]:
    """Return the verdicts of a run, oldest first."""
    return [StoredVerdict(*row) for row in connection.execute(_VERDICTS_OF_RUN, {"run": run_id})]


_VERDICTS_OF_RUN = Prepared(
    select(*(verdicts.c[name] for name in StoredVerdict.__dataclass_fields__))
    .where(verdicts.c.run_id == bindparam("run"))
    .order_by(verdicts.c.id)
)
