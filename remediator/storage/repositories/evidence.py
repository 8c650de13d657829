"""Evidence of checks and verdicts of guards."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, insert, select

from remediator.audit import Kind
from remediator.core.run import Run
from remediator.storage import Tx
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
    for found in seen:
        item = replace(found, summary=tx.redact(found.summary), facts=tx.redact(found.facts))
        tx.connection.execute(
            insert(table).values(
                run_id=run.id,
                phase=item.phase,
                name=item.name,
                status=item.status,
                summary=item.summary,
                facts=dict(item.facts),
                at=item.at,
            )
        )
        data = {"phase": item.phase, "name": item.name, "status": item.status, "summary": item.summary}
        facts = json.dumps(item.facts, sort_keys=True, default=str).encode()
        tx.append_audit(
            runs.draft(Kind.EVIDENCE, run, actor, data | {"facts": facts})
        )  # the entry has their digest, the row has the facts


def list_for_run(connection: Connection, run_id: str) -> list[EvidenceRecord]:
    """Return the observations of a run, oldest first."""
    columns = (table.c.phase, table.c.name, table.c.status, table.c.summary, table.c.facts, table.c.at)
    rows = connection.execute(select(*columns).where(table.c.run_id == run_id).order_by(table.c.id))
    return [EvidenceRecord(*row) for row in rows]


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
    if not items:
        return
    tx.connection.execute(
        insert(verdicts),
        [
            {
                "run_id": run.id,
                "at": item.at,
                "phase": item.phase,
                "step": item.step,
                "guard": item.guard,
                "answer": item.answer,
                "reason": item.reason,
                "inputs": dict(item.inputs),
            }
            for item in items
        ],
    )
    listed = [
        {"guard": item.guard, "answer": item.answer, "reason": item.reason, "inputs": item.inputs} for item in items
    ]
    data = {"phase": items[0].phase, "step": items[0].step, "verdicts": listed}
    tx.append_audit(runs.draft(Kind.GUARD_VERDICT, run, actor, data))


def list_verdicts(connection: Connection, run_id: str) -> list[StoredVerdict]:
    """Return the verdicts of a run, oldest first."""
    columns = (
        verdicts.c.at,
        verdicts.c.phase,
        verdicts.c.step,
        verdicts.c.guard,
        verdicts.c.answer,
        verdicts.c.reason,
        verdicts.c.inputs,
    )
    rows = connection.execute(select(*columns).where(verdicts.c.run_id == run_id).order_by(verdicts.c.id))
    return [StoredVerdict(*row) for row in rows]
