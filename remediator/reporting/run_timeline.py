"""The timeline of a run: everything that happened, in order, for the API, the CLI, the pages and the demo."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
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
from remediator.errors import InputError, NotFound
from remediator.pipeline.manual_undo import undoable_steps
from remediator.storage.repositories import attempts, audit, comments, episodes, evidence, lookup, runs
from remediator.storage.repositories.attempts import Attempt
from remediator.storage.repositories.comments import Comment
from remediator.storage.repositories.evidence import EvidenceRecord, StoredVerdict

_LATE_ENTRIES = timedelta(hours=1)
"""Entries may be written this long after the end of a run, for example that a message was delivered."""


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a run. ``kind`` is the kind of its audit entry."""

    at: datetime
    kind: str
    text: str
    actor: str = ""


@dataclass(frozen=True, slots=True)
class RunTimeline:
    """Everything that the store and the audit log contain about one run."""

    run: Run
    alerts: Sequence[Episode]
    attempts: Sequence[Attempt]
    evidence: Sequence[EvidenceRecord]
    verdicts: Sequence[StoredVerdict]
    events: Sequence[Event]
    comments: Sequence[Comment] = ()
    complete: bool = True
    """False if entries were moved to an archive that was not given or cannot be read."""


def archived_hint(run_id: str) -> str:
    """Return a note for a timeline that is not complete, with the command that reads the rest."""
    return (
        "Some entries of this run are in the archive of the audit log, which cannot be read here. To read them, run "
        f"'remediator audit search --archive FOLDER --run {run_id}'."
    )


def missing_run_hint(run_id: str, folder: Path | None = None) -> str:
    """Return an error message for a run that is not in the database, with the command that finds its entries.

    Args:
        run_id: the ID that was asked for.
        folder: the archive of the audit log, if there is one. It is searched for the file of that time.
    """
    name, place = run_id[:64], "the audit log and its archive"
    at = made_at(name)
    if folder is not None and at is not None:
        with suppress(ArchiveError):  # "audit verify" reports damaged files
            file = archive.file_at(folder, at)
            place = "the audit log" if file is None else f"the archive file {file}"
    return (
        f"run {name!r} is not in the database: it never existed, or it is older than timing.run_retention; "
        f"to search {place}, run 'remediator audit search --run {name}'"
    )


def load_timeline(connection: Connection, run_id: str, folder: Path | None = None) -> RunTimeline | None:
    """Load the timeline of a run from one snapshot of the store. Return None if there is no such run.

    Args:
        connection: to the store.
        run_id: the ID of the run.
        folder: the archive of the audit log; archived entries of the run are read from it.
    """
    run = runs.get(connection, run_id)
    if run is None:
        return None
    rows, complete = _entries(connection, run, folder)
    return RunTimeline(
        run,
        episodes.list_for_run(connection, run_id),
        attempts.list_for_run(connection, run_id),
        evidence.list_for_run(connection, run_id),
        evidence.list_verdicts(connection, run_id),
        [event for row in rows for event in _read(row)],
        comments.list_for_run(connection, run_id),
        complete,
    )


def load_timelines(connection: Connection, name: str, folder: Path | None = None) -> list[RunTimeline]:
    """Load the timeline of a run, or of all runs of an episode.

    Args:
        connection: to the store.
        name: ID of a run, its beginning, ``@latest``, or ID of an episode.
        folder: the archive of the audit log.

    Raises:
        InputError: there is no such run or episode, or the episode has no run.
    """
    ids = [lookup.run_id(connection, name)]
    if episodes.get(connection, name) is not None:
        ids = episodes.run_ids_by_episode(connection, [name]).get(name, [])
        if not ids:
            raise InputError(f"episode {name[:64]!r} has no run: no playbook matched its alert")
    found = [load_timeline(connection, run_id, folder) for run_id in ids]
    timelines = [each for each in found if each is not None]
    if not timelines:
        raise NotFound(missing_run_hint(name, folder))
    return timelines


def _entries(connection: Connection, run: Run, folder: Path | None) -> tuple[Sequence[SealedEntry], bool]:
    """Return the entries of a run, and whether they are complete."""
    live = audit.list_for_run(connection, run.id)
    if audit.is_complete_since(connection, run.created_at):
        return live, True
    until = max(run.finished_at or run.updated_at, run.updated_at) + _LATE_ENTRIES
    try:
        old = [] if folder is None else list(archive.entries_of_run(folder, run.id, run.created_at, until))
    except ArchiveError:
        old = []  # "audit verify" reports damaged files
    rows = {row.seq: row for row in (*old, *live)}  # after a crash while archiving, entries are in both places
    return list(rows.values()), any(row.kind == Kind.RUN_MATCHED for row in rows.values())


def _read(row: SealedEntry) -> list[Event]:
    """Return the event of an entry; None if other entries have the same information."""
    try:
        entry = decode(row.canonical)
        describe = _DESCRIBE.get(entry.kind)
        text = entry.kind if describe is None else describe(entry)
        return [Event(entry.time, entry.kind, text, entry.actor)] if text else []
    except (NotCanonical, LookupError, TypeError):  # the entry was changed in the database; show the others
        text = f"entry {row.seq} of the audit log cannot be read; run 'remediator audit verify'"
        return [Event(row.time, row.kind, text)]


def _transition(entry: Entry) -> str:
    detail = entry.data.get("detail", {})
    if entry.data["to"] == "planned":
        return ""  # the next entry contains the plan
    to = entry.data["to"].replace("_", " ")
    because = detail.get("text") or detail.get("message") or _list(detail.get("proof"))
    because = because or (entry.reason or "").replace("_", " ")
    return f"{to}: {because}" if because else to


def _list(items: Any) -> str:
    return "; ".join(items) if isinstance(items, list) else ""


def _verdict(entry: Entry) -> str:
    verdicts = entry.data["verdicts"]
    when = f"before step {entry.data['step']}" if entry.data.get("step") else "for the plan"
    failed = [f"{item['guard']}: {item['answer']}" for item in verdicts if item["answer"] != "allow"]
    skipped = [item["guard"] for item in verdicts if item["answer"] == "allow" and "started_by" in item["inputs"]]
    if not failed:
        note = f"; not needed for a manual start: {', '.join(skipped)}" if skipped else ""
        return f"all {len(verdicts)} guards passed {when}{note}"
    return f"{len(verdicts) - len(failed)} of {len(verdicts)} guards passed {when}; {', '.join(failed)}"


def _sent(entry: Entry) -> str:
    """Mark a message that is only in the log: it notified no person."""
    channel = entry.data["channel"]
    if entry.data.get("log_only"):
        return f"message for {channel} written to the log only; no person was notified"
    return f"message to {channel} delivered"


def _outcome(entry: Entry) -> str:
    if entry.reason == "skipped":
        return f"step {entry.data['step']} skipped: {entry.data['skipped']}"
    return f"{entry.data['action']} {entry.data['outcome']}: {entry.data.get('summary', '')}"


def _with(head: str, said: str) -> str:
    """Add what the person wrote, if anything."""
    return f"{head}: {said}" if said else head


def _remembered(entry: Entry) -> str:
    name, reason = entry.data["name"], entry.data["reason"]
    if entry.data["kind"] == "remedy":
        return f"{name} did not help ({reason})"
    return f"the release {name} is {entry.data['verdict']} ({reason})"


_VERBS = {"approve": "approved", "reject": "rejected", "snooze": "snoozed"}

_DESCRIBE: Mapping[str, Callable[[Entry], str]] = {
    "run.matched": lambda entry: (
        f"playbook {entry.playbook} matched for {entry.data['target']}"
        if entry.actor.startswith("remediator/")
        else f"playbook {entry.playbook} started for {entry.data['target']} by {entry.actor}"
    ),
    "run.commented": lambda entry: f"comment by {entry.actor}: {entry.data['text']}",
    "run.acknowledged": lambda entry: _with(f"{entry.actor} takes care of it", entry.data["text"]),
    "incident.noted": lambda entry: f"noted, no person was notified: {entry.data['text']}",
    "run.planned": lambda entry: (
        "planned: " + (_list([step["call"]["text"] for step in entry.data["plan"]["steps"]]) or "no action")
    ),
    "run.transition": _transition,
    "guard.verdict": _verdict,
    "evidence": lambda entry: (
        f"likely cause: {entry.data['summary']}"
        if entry.data["phase"] == "conclude"
        else f"{entry.data['phase']} {entry.data['name']}: {entry.data['summary']}"
    ),
    "action.intended": lambda entry: (
        f"perhaps started before the database was replaced: {entry.data['call']['text']}"
        if entry.data.get("assumed")
        else f"starting: {entry.data['call']['text']}"
    ),
    "action.outcome": _outcome,
    "action.undone": lambda entry: (
        "" if entry.data.get("attempt") else f"undo of step {entry.data['step']} not tried: {entry.data['summary']}"
    ),
    "action.observed": lambda entry: f"observed: {entry.data['summary']} (took effect: {entry.data['happened']})",
    "verification": lambda entry: "healed" if entry.data["healed"] else "not healed: " + _list(entry.data["missing"]),
    "approval.requested": lambda entry: f"approval requested: {_list(entry.data.get('calls')) or 'see the plan'}",
    "approval.decided": lambda entry: _with(
        f"{_VERBS.get(entry.data['verb'], entry.data['verb'])} by {entry.actor}", entry.data.get("why") or ""
    ),
    "operator.command": lambda entry: (
        f"{entry.data['command']} by {entry.actor}" + (f": {entry.reason}" if entry.reason else "")
    ),
    "approval.expired": lambda entry: "the approval request expired",
    "approval.void": lambda entry: f"the approval request is outdated: {entry.reason}",
    "memory.recorded": lambda entry: f"remembered for {entry.data['target']}: {_remembered(entry)}",
    "memory.cleared": lambda entry: f"cleared from the memory of {entry.data['target']}: {entry.data['name']}",
    "message.sent": _sent,
    "message.failed": lambda entry: f"message to {entry.data['channel']} not delivered: {entry.data['error']}",
    "message.chart": lambda entry: f"chart to {entry.data['channel']} {entry.data['error'] or 'delivered'}",
}


def as_data(timeline: RunTimeline) -> dict[str, Any]:
    """Return the timeline for the API and ``--format json``."""
    return {
        **summary(timeline.run),
        "alerts": [
            {
                "episode": alert.id,
                "kind": alert.kind.value,
                "alertname": alert.alertname,
                "source": alert.source,
                "status": alert.status.value,
                "labels": alert.labels,
                "annotations": alert.annotations,
                "started_at": rfc3339(alert.started_at),
                "resolved_at": _time(alert.resolved_at),
            }
            for alert in timeline.alerts
        ],
        "steps": [
            {
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
            for attempt in timeline.attempts
        ],
        "plan": None if timeline.run.plan is None else timeline.run.plan.to_data(),
        "evidence": [
            {
                "at": rfc3339(item.at),
                "phase": item.phase,
                "name": item.name,
                "status": item.status,
                "summary": item.summary,
            }
            for item in timeline.evidence
        ],
        "comments": [comment_data(item) for item in timeline.comments],
        "undoable": [
            {"step": item.step.id, "how": item.how} for item in undoable_steps(timeline.run, list(timeline.attempts))
        ],
        "timeline": [{"time": rfc3339(event.at), "kind": event.kind, "text": event.text} for event in timeline.events],
    }


def comment_data(item: Comment) -> dict[str, Any]:
    """Return a comment for the API and ``--format json``."""
    return {
        "id": item.id,
        "run": item.run_id,
        "kind": item.kind.value,
        "person": item.person,
        "at": rfc3339(item.at),
        "text": item.text,
    }


def summary(run: Run) -> dict[str, Any]:
    """Return the fields of a run for lists in the API and ``--format json``."""
    return {
        "id": run.id,
        "incident": run.incident_id,
        "status": run.status.value,
        "reason": run.reason,
        "detail": run.detail.to_data(),
        "blocked_by": run.blocked_by,
        "playbook": run.playbook,
        "target": run.target,
        "mode": run.mode,
        "plan_hash": run.plan_hash,
        "holds_target": run.holds_target,
        "created_at": rfc3339(run.created_at),
        "updated_at": rfc3339(run.updated_at),
        "first_action_at": _time(run.first_action_at),
        "finished_at": _time(run.finished_at),
    }


def _time(instant: datetime | None) -> str | None:
    return None if instant is None else rfc3339(instant)
