"""Compare the state in the database with the audit log.

The chain shows that the log is unchanged. It does not protect the tables beside it, which an SQL statement can change.
For example, a request is approved without a decision, a stop is gone, or a run never was in the log.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec

from remediator.audit import Kind, Redactor, SealedEntry, decode, redact_json
from remediator.audit.canonical import NotCanonical
from remediator.core.approval import ApprovalStatus
from remediator.core.plan import Plan
from remediator.storage.repositories.state_rows import StateRows

_Memory = tuple[str, str, str]
"""Target, kind and name."""


@dataclass(slots=True)
class _Logged:
    """The state of the rows according to the log."""

    first_at: datetime | None = None
    """Time of the first entry that was read; rows from before it cannot be compared."""
    pruned_before: datetime | None = None
    pruned: set[str] = field(default_factory=set)
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    approvals: dict[str, datetime] = field(default_factory=dict)
    decisions: dict[tuple[str, str], str] = field(default_factory=dict)
    alone: set[str] = field(default_factory=set)
    """Requests that were approved by break-glass."""
    approval_runs: dict[str, str] = field(default_factory=dict)
    stops: dict[str, dict[str, Any]] = field(default_factory=dict)
    memory: dict[_Memory, tuple[str | None, datetime]] = field(default_factory=dict)
    """Verdict, or None if it was cleared; and when."""


def compare_state(rows: StateRows, entries: Iterable[SealedEntry], now: datetime) -> Iterator[str]:
    """Yield each difference between the rows and the log, as a sentence.

    Args:
        rows: the state.
        entries: the log, in order. If it begins later than the state, older rows are not compared.
        now: the current time; an expired stop may be gone.
    """
    logged = _Logged()
    for row in entries:
        if logged.first_at is None:
            # entry 1 is in the database, so the log is complete, regardless of the clocks
            logged.first_at = row.time if row.seq > 1 else datetime.min.replace(tzinfo=row.time.tzinfo)
        note = _NOTES.get(row.kind)
        if note is None:
            continue
        try:
            entry = decode(row.canonical)
        except NotCanonical:
            continue  # the verification of the chain reports it
        note(logged, entry)
    if logged.first_at is None:
        return
    yield from _compare_runs(rows, logged)
    yield from _compare_approvals(rows, logged)
    yield from _compare_stops(rows, logged, now)
    yield from _compare_memory(rows, logged)


def _note_run(logged: _Logged, entry: Any) -> None:
    about = logged.runs.setdefault(entry.run, {"mode": None, "status": "matched", "plan_hash": None})
    if entry.kind == Kind.RUN_MATCHED:
        about.update(mode=entry.data.get("mode"), target=entry.data.get("target"))
    else:
        about.update(status=entry.data.get("to"), plan_hash=entry.plan_hash)


def _note_request(logged: _Logged, entry: Any) -> None:
    logged.approvals[entry.data["approval"]] = entry.time
    logged.approval_runs[entry.data["approval"]] = entry.run


def _note_decision(logged: _Logged, entry: Any) -> None:
    approval = entry.data["approval"]
    logged.decisions[approval, entry.actor] = entry.data["verb"]
    logged.approval_runs.setdefault(approval, entry.run)
    if entry.data.get("break_glass") and entry.data["verb"] == "approve":
        logged.alone.add(approval)


def _note_stop(logged: _Logged, entry: Any) -> None:
    about = logged.stops.setdefault(entry.data["stop"], {"released": False})
    if entry.kind == Kind.STOP_SET:
        about.update(entry.data)
    else:
        about["released"] = True


def _note_memory(logged: _Logged, entry: Any) -> None:
    key = (entry.data["target"], entry.data["kind"], entry.data["name"])
    verdict = entry.data["verdict"] if entry.kind == Kind.MEMORY_RECORDED else None
    logged.memory[key] = (verdict, entry.time)


def _note_pruned(logged: _Logged, entry: Any) -> None:
    logged.pruned.update(entry.data.get("ids") or ())
    logged.pruned_before = datetime.fromisoformat(entry.data["before"])


_NOTES = {
    Kind.RUN_MATCHED.value: _note_run,
    Kind.RUN_TRANSITION.value: _note_run,
    Kind.APPROVAL_REQUESTED.value: _note_request,
    Kind.APPROVAL_DECIDED.value: _note_decision,
    Kind.STOP_SET.value: _note_stop,
    Kind.STOP_CLEARED.value: _note_stop,
    Kind.MEMORY_RECORDED.value: _note_memory,
    Kind.MEMORY_CLEARED.value: _note_memory,
    Kind.HISTORY_PRUNED.value: _note_pruned,
}


def _compare_runs(rows: StateRows, logged: _Logged) -> Iterator[str]:
    assert logged.first_at is not None
    seen = set()
    for row in rows.runs:
        seen.add(row.id)
        if row.created_at < logged.first_at:
            continue
        said = logged.runs.get(row.id)
        if said is None:
            yield f"run {row.id} is in the database, but not in the log"
            continue
        for name, of_row in (("status", row.status), ("mode", row.mode), ("target", row.target)):
            if said.get(name) != of_row:
                yield f"run {row.id} has the {name} {of_row!r} in the database, but {said.get(name)!r} in the log"
        if said["plan_hash"] != row.plan_hash or not _is_plan(row.plan, row.plan_hash):
            yield f"run {row.id} has another plan in the database than in the log"
    for run_id in sorted(logged.runs.keys() - seen - logged.pruned):
        yield f"run {run_id} is in the log, but not in the database"


def _is_plan(plan: Any, plan_hash: str | None) -> bool:
    if plan is None or plan_hash is None:
        return plan is None
    try:
        return Plan.from_data(plan).hash == plan_hash
    except msgspec.ValidationError:
        return True  # a plan of another version, which this one cannot read


def _compare_approvals(rows: StateRows, logged: _Logged) -> Iterator[str]:
    assert logged.first_at is not None
    verbs: dict[str, list[str]] = defaultdict(list)
    for (approval, _), verb in logged.decisions.items():
        verbs[approval].append(verb)
    known = {row.id for row in rows.approvals}
    for row in rows.approvals:
        if row.requested_at < logged.first_at:
            continue
        if row.id not in logged.approvals:
            yield f"request {row.id} is in the database, but not in the log"
        agreed = verbs[row.id].count("approve")
        decided = {
            ApprovalStatus.APPROVED.value: agreed >= row.quorum or row.id in logged.alone,
            ApprovalStatus.REJECTED.value: "reject" in verbs[row.id],
        }.get(row.status, True)
        if not decided:
            yield f"request {row.id} is {row.status} in the database, but the log has no decision that makes it so"
    clean = Redactor()
    in_rows = {(row.approval_id, redact_json(row.identity, clean)): row.verb for row in rows.decisions}
    times = {(row.approval_id, redact_json(row.identity, clean)): row.at for row in rows.decisions}
    for key, verb in in_rows.items():
        if times[key] >= logged.first_at and logged.decisions.get(key) != verb:
            yield f"the decision of {key[1]!r} about request {key[0]} ({verb}) is not in the log"
    for (approval, who), verb in logged.decisions.items():
        if (approval, who) not in in_rows and logged.approval_runs.get(approval) not in logged.pruned:
            where = "request" if approval in known else "missing request"
            yield f"the decision of {who!r} about {where} {approval} ({verb}) is in the log, but not in the database"


def _compare_stops(rows: StateRows, logged: _Logged, now: datetime) -> Iterator[str]:
    assert logged.first_at is not None
    seen = set()
    for row in rows.stops:
        seen.add(row.id)
        if row.created_at < logged.first_at:
            continue
        said = logged.stops.get(row.id)
        if said is None or "scope" not in said:
            yield f"stop {row.id} is in the database, but not in the log"
        elif (row.scope, row.name) != (said["scope"], said["name"]):
            yield f"stop {row.id} has another scope in the database than in the log"
        elif said["released"] != (row.released_at is not None):
            where = "released in the database, but not" if row.released_at else "active in the database, but released"
            yield f"stop {row.id} is {where} in the log"
        elif _expiry(said) != row.expires_at:
            yield f"stop {row.id} expires at another time in the database than in the log"
    for stop_id, said in logged.stops.items():
        expires = _expiry(said)
        over = said["released"] or (expires is not None and expires <= now)
        if stop_id not in seen and not over:
            yield f"stop {stop_id} is active in the log, but not in the database"


def _expiry(said: dict[str, Any]) -> datetime | None:
    return datetime.fromisoformat(said["expires_at"]) if said.get("expires_at") else None


def _compare_memory(rows: StateRows, logged: _Logged) -> Iterator[str]:
    assert logged.first_at is not None
    seen = set()
    for row in rows.memory:
        key = (row.target, row.kind, row.name)
        seen.add(key)
        if row.at < logged.first_at:
            continue
        verdict = logged.memory.get(key, (None, None))[0]
        stored = row.verdict if row.cleared_at is None else None
        if key not in logged.memory or verdict != stored:
            yield f"what is remembered about {row.name!r} on {row.target} differs from the log"
    for key, (verdict, at) in logged.memory.items():
        old = logged.pruned_before is not None and at < logged.pruned_before
        if verdict is not None and key not in seen and not old:
            yield f"what the log remembers about {key[2]!r} on {key[0]} is not in the database"
