"""The memory of a target: releases that were rolled back or proved good, and remedies that did not help.

There is one entry for each release and each remedy of a target. The newest knowledge replaces the older one; the audit
log keeps both. A person can clear an entry.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

import msgspec
from sqlalchemy import Connection, bindparam, select, update

from remediator.audit import Draft, Kind
from remediator.core.ids import Ids
from remediator.core.plan import PlannedCall, PlannedStep
from remediator.core.release import ReleaseMemory, Verdict
from remediator.core.run import Run
from remediator.errors import NotFound
from remediator.storage import TOPIC_RUNS, Tx
from remediator.storage.prepared import Prepared, insert_or_update
from remediator.storage.repositories import attempts, runs
from remediator.storage.schema import remedy_memory as table

NO_HELP = "no_help"
"""Verdict about a remedy: it was applied, and the target was not healed."""


class MemoryKind(StrEnum):
    """The subject of an entry."""

    RELEASE = "release"
    REMEDY = "remedy"


class Subject(NamedTuple):
    """The release or the remedy that an entry is about."""

    kind: MemoryKind
    key: str
    """Key of the release, or :func:`remedy_key` of the remedy."""
    name: str
    """The release or the remedy, for people."""


@dataclass(frozen=True, slots=True)
class MemoryEntry:
    """The memory of one release or one remedy of a target."""

    id: str
    target: str
    kind: str
    subject: str
    name: str
    verdict: str
    """``bad`` or ``good`` for a release, ``no_help`` for a remedy."""
    reason: str
    run_id: str | None
    at: datetime
    cleared_at: datetime | None
    cleared_by: str | None


def remedy_key(step: PlannedStep, established: Sequence[str]) -> str:
    """Return the key of a remedy: a digest of its action, its parameters and the causes that it is applied for.

    Args:
        step: the remedy.
        established: the causes that the evidence points to. If the step names causes, only these count.
    """
    causes = sorted(set(established) & set(step.causes) if step.causes else set(established))
    text = json.dumps([step.action, step.parameters, causes], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def remember(tx: Tx, ids: Ids, run: Run, about: Subject, verdict: str, reason: str, actor: str) -> None:
    """Remember a verdict of a run about a release or a remedy of its target, with an audit entry."""
    values = {
        "target": run.target,
        "kind": about.kind.value,
        "subject": about.key,
        "name": tx.redact(about.name),
        "verdict": verdict,
        "reason": tx.redact(reason),
        "run_id": run.id,
        "at": tx.now,
        "cleared_at": None,
        "cleared_by": None,
    }
    unique = ("target", "kind", "subject")
    changed = tuple(field for field in values if field not in unique)
    statement = insert_or_update(tx.connection.dialect.name, table, unique, changed)
    tx.connection.execute(statement, {"id": ids.new("memory", tx.now), **values})
    told = ("kind", "subject", "name", "verdict", "reason")
    data = {"target": run.target, **{field: values[field] for field in told}}
    tx.append_audit(runs.draft(Kind.MEMORY_RECORDED, run, actor, data, verdict))


def releases_of(connection: Connection, target: str) -> ReleaseMemory:
    """Return the memory of the releases of a target.

    A bad release that a person cleared counts as good, even against the record of the platform.
    """
    rows = connection.execute(_OF_TARGET, {"target": target, "kind": MemoryKind.RELEASE.value}).all()
    kept = [row for row in rows if row.cleared_at is None or row.verdict == Verdict.BAD.value]
    return ReleaseMemory(
        {row.subject: Verdict(row.verdict) if row.cleared_at is None else Verdict.GOOD for row in kept}
    )


def find_remedies(
    connection: Connection, run: Run, steps: Mapping[str, PlannedStep], since: datetime | None = None
) -> dict[str, MemoryEntry]:
    """Return the remedies that did not help on the target of a run, by key.

    A rollback of a later release is a different remedy from the rollback that did not help.

    Args:
        connection: to the store.
        run: the asking run; its own actions do not count.
        steps: the remedies to look up, by :func:`remedy_key`.
        since: older entries do not count.
    """
    rows = connection.execute(_OF_TARGET, {"target": run.target, "kind": MemoryKind.REMEDY.value})
    entries = [MemoryEntry(**row._asdict()) for row in rows if row.cleared_at is None and row.run_id != run.id]
    return {
        each.subject: each
        for each in entries
        if each.subject in steps
        and (since is None or each.at > since)
        and not _is_of_later_release(connection, steps[each.subject], each)
    }


def _is_of_later_release(connection: Connection, step: PlannedStep, entry: MemoryEntry) -> bool:
    """Return whether a rollback leaves a release that the run of the entry neither left nor restored."""
    change = step.call.release_change
    if change is None or entry.run_id is None:
        return False
    calls = [msgspec.convert(item.call, PlannedCall) for item in attempts.list_for_run(connection, entry.run_id)]
    known = {key for call in calls if (seen := call.release_change) for key in (seen.left, seen.restored)}
    return bool(known) and change.left not in known


_OF_TARGET = Prepared(
    select(table)
    .where(table.c.target == bindparam("target"), table.c.kind == bindparam("kind"))
    .order_by(table.c.at.desc(), table.c.id.desc())
)


def list_entries(connection: Connection, target: str | None = None) -> list[MemoryEntry]:
    """Return all entries that are not cleared, the newest first, of one target or of all."""
    statement = select(table).where(table.c.cleared_at.is_(None)).order_by(table.c.at.desc(), table.c.id.desc())
    if target is not None:
        statement = statement.where(table.c.target == target)
    return [MemoryEntry(**row._asdict()) for row in connection.execute(statement)]


def clear(tx: Tx, entry_id: str, who: str, reason: str) -> MemoryEntry:
    """Clear an entry on behalf of a person: the release may be restored again, the remedy runs automatically again.

    Raises:
        InputError: there is no such entry, or it is cleared already.
    """
    row = tx.connection.execute(select(table).where(table.c.id == entry_id, table.c.cleared_at.is_(None))).first()
    if row is None:
        raise NotFound(f"no entry {entry_id!r}; 'remediator memory list' lists the entries")
    entry = MemoryEntry(**row._asdict())
    tx.connection.execute(update(table).where(table.c.id == entry.id).values(cleared_at=tx.now, cleared_by=who))
    data = {"entry": entry.id, "target": entry.target, "kind": entry.kind, "name": entry.name, "verdict": entry.verdict}
    tx.append_audit(Draft(kind=Kind.MEMORY_CLEARED, actor=who, reason=tx.redact(reason), data=data))
    tx.notify(TOPIC_RUNS)
    return entry


def forget(tx: Tx, run: Run, kind: MemoryKind, key: str, why: str, actor: str) -> None:
    """Delete the entry about a release or a remedy, because a run showed otherwise; with an audit entry."""
    mine = (table.c.target == run.target, table.c.kind == kind.value, table.c.subject == key)
    row = tx.connection.execute(select(table).where(*mine)).first()
    if row is None:
        return
    tx.connection.execute(table.delete().where(table.c.id == row.id))
    data = {"entry": row.id, "target": row.target, "kind": row.kind, "name": row.name, "verdict": row.verdict}
    tx.append_audit(runs.draft(Kind.MEMORY_CLEARED, run, actor, data, why))
