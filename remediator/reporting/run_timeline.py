"""A run told as the straight line: what happened, in order, in plain words. The same for API, CLI, pages and demo."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from remediator.audit import Entry, Kind, NotCanonical, SealedEntry, archive, decode
from remediator.audit.archive import ArchiveError
from remediator.core.clock import rfc3339
from remediator.core.ids import made_at
from remediator.core.run import Episode, Run
from remediator.storage.repositories import attempts, audit, episodes, evidence, runs
from remediator.storage.repositories.attempts import Attempt
from remediator.storage.repositories.evidence import EvidenceRecord, StoredVerdict

_AFTERWARDS = timedelta(hours=1)
"""For so long after a run's end, something of it may still be written: that a message was delivered."""


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened."""

    at: datetime
    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class RunTimeline:
    """Everything about one run."""

    run: Run
    alerts: Sequence[Episode]
    attempts: Sequence[Attempt]
    evidence: Sequence[EvidenceRecord]
    verdicts: Sequence[StoredVerdict]
    events: Sequence[Event]
    whole: bool = True
    """False if entries of it have left the database, and the archive that has them was not given or cannot be read."""


def moved(run_id: str) -> str:
    """What to say where a story is not whole."""
    return (
        "Entries of this run have moved to the audit log's archive, which cannot be read here: what happened is not "
        f"all here. 'remediator audit search --archive FOLDER --run {run_id}' reads it."
    )


def unknown(run_id: str, folder: Path | None = None) -> str:
    """What to say of a run that there is none of, or none any more.

    Args:
        folder: of the audit log's archive, if it has one; it is looked into.
    """
    name = run_id[:64]
    return (
        f"there is no run {name} in the database: it never was, or it was over for longer than timing.run_retention. "
        f"What became of a run is in the audit log{_where(name, folder)}: 'remediator audit search --run {name}'"
    )


def _where(run_id: str, folder: Path | None) -> str:
    at = made_at(run_id)
    if folder is None or at is None:
        return " and its archive"
    try:
        file = archive.file_at(folder, at)
    except ArchiveError:
        return " and its archive"  # a damaged file is for "audit verify" to name
    return "" if file is None else f", of that time in the archive's file {file}"


def load_timeline(connection: Connection, run_id: str, folder: Path | None = None) -> RunTimeline | None:
    """The story of a run, from one snapshot of the store; None if there is no such run.

    Args:
        folder: of the audit log's archive; entries of the run that have moved there are read from it.
    """
    run = runs.get(connection, run_id)
    if run is None:
        return None
    rows, whole = _entries(connection, run, folder)
    return RunTimeline(
        run,
        episodes.list_for_run(connection, run_id),
        attempts.list_for_run(connection, run_id),
        evidence.list_for_run(connection, run_id),
        evidence.list_verdicts(connection, run_id),
        [event for row in rows for event in _told(row)],
        whole,
    )


def _entries(connection: Connection, run: Run, folder: Path | None) -> tuple[Sequence[SealedEntry], bool]:
    """A run's entries, and whether they are all there."""
    live = audit.list_for_run(connection, run.id)
    if audit.is_complete_since(connection, run.created_at):
        return live, True
    until = max(run.finished_at or run.updated_at, run.updated_at) + _AFTERWARDS
    try:
        old = [] if folder is None else list(archive.entries_of_run(folder, run.id, run.created_at, until))
    except ArchiveError:
        old = []  # a damaged file is for "audit verify" to name
    rows = {row.seq: row for row in (*old, *live)}  # a crash while moving leaves entries in both places
    return list(rows.values()), any(row.kind == Kind.RUN_MATCHED for row in rows.values())


def _told(row: SealedEntry) -> Iterable[Event]:
    try:
        return list(_events(decode(row.canonical)))
    except (NotCanonical, LookupError, TypeError):  # somebody wrote into the database; the rest is still to be told
        text = f"entry {row.seq} of the audit log cannot be read; run 'remediator audit verify'"
        return [Event(row.time, row.kind, text)]


def _events(entry: Entry) -> Iterable[Event]:
    telling = _TEXT.get(entry.kind)
    text = entry.kind if telling is None else telling(entry)
    if text:
        yield Event(entry.time, entry.kind, text)


def _transition(entry: Entry) -> str:
    detail = entry.data.get("detail", {})
    if entry.data["to"] == "planned":
        return ""  # the plan itself is the next entry
    to = entry.data["to"].replace("_", " ")
    because = detail.get("text") or detail.get("message") or _list(detail.get("proof")) or (entry.reason or "")
    return f"{to}: {because}" if because else to


def _list(items: Any) -> str:
    return "; ".join(items) if isinstance(items, list) else ""


def _verdict(entry: Entry) -> str:
    asked = ", ".join(f"{item['guard']} {item['answer']}" for item in entry.data["verdicts"])
    before = f"before step {entry.data['step']}" if entry.data.get("step") else "of the plan"
    return f"guards {before}: {asked}"


def _outcome(entry: Entry) -> str:
    if entry.reason == "skipped":
        return f"step {entry.data['step']} skipped: {entry.data['skipped']}"
    return f"{entry.data['action']} {entry.data['outcome']}: {entry.data.get('summary', '')}"


_TEXT: Mapping[str, Callable[[Entry], str]] = {
    "run.matched": lambda entry: f"playbook {entry.playbook} matched for {entry.data['target']}",
    "run.planned": lambda entry: "planned: " + _list([s["call"]["text"] for s in entry.data["plan"]["steps"]]),
    "run.transition": _transition,
    "guard.verdict": _verdict,
    "evidence": lambda entry: f"{entry.data['phase']} {entry.data['name']}: {entry.data['summary']}",
    "action.intended": lambda entry: f"about to: {entry.data['call']['text']}",
    "action.outcome": _outcome,
    "action.observed": lambda entry: f"observed: {entry.data['summary']} (happened: {entry.data['happened']})",
    "verification": lambda entry: "healed" if entry.data["healed"] else "not healed: " + _list(entry.data["missing"]),
    "approval.requested": lambda entry: "a person is asked",
    "approval.decided": lambda entry: f"{entry.actor} says {entry.data['verb']}",
    "approval.void": lambda entry: f"the request is void: {entry.reason}",
    "message.sent": lambda entry: f"message to {entry.data['channel']} delivered",
    "message.failed": lambda entry: f"message to {entry.data['channel']} not delivered: {entry.data['error']}",
    "message.chart": lambda entry: f"chart to {entry.data['channel']} {entry.data['error'] or 'delivered'}",
}


def as_data(story: RunTimeline) -> dict[str, Any]:
    """As JSON, for the API and ``--format json``."""
    return {
        **summary(story.run),
        "alerts": [_alert(alert) for alert in story.alerts],
        "steps": [_attempt(attempt) for attempt in story.attempts],
        "plan": story.run.plan,
        "evidence": [
            {
                "at": rfc3339(item.at),
                "phase": item.phase,
                "name": item.name,
                "status": item.status,
                "summary": item.summary,
            }
            for item in story.evidence
        ],
        "timeline": [{"time": rfc3339(event.at), "kind": event.kind, "text": event.text} for event in story.events],
    }


def summary(run: Run) -> dict[str, Any]:
    """One line of a list of runs, as JSON."""
    return {
        "id": run.id,
        "status": run.status.value,
        "reason": run.reason,
        "detail": dict(run.detail),
        "playbook": run.playbook,
        "target": run.target,
        "mode": run.mode,
        "plan_hash": run.plan_hash,
        "holds_target": run.holds_target,
        "created_at": rfc3339(run.created_at),
        "first_action_at": _time(run.first_action_at),
        "finished_at": _time(run.finished_at),
    }


def _time(instant: datetime | None) -> str | None:
    return None if instant is None else rfc3339(instant)


def _alert(alert: Episode) -> Mapping[str, Any]:
    return {
        "episode": alert.id,
        "alertname": alert.alertname,
        "status": alert.status.value,
        "labels": alert.labels,
        "annotations": alert.annotations,
        "started_at": rfc3339(alert.started_at),
        "resolved_at": _time(alert.resolved_at),
    }


def _attempt(attempt: Attempt) -> Mapping[str, Any]:
    return {
        "id": attempt.id,
        "step": attempt.step,
        "number": attempt.number,
        "action": attempt.action,
        "call": attempt.call,
        "outcome": attempt.outcome,
        "intent_at": rfc3339(attempt.intent_at),
        "outcome_at": _time(attempt.outcome_at),
        "result": attempt.result,
    }
