"""One incident as people see it: its runs, its alerts, the best likely cause, and its state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from remediator.core.clock import rfc3339
from remediator.core.run import Episode, EpisodeKind, EpisodeStatus, Run, Status
from remediator.core.severity import highest_severity
from remediator.reporting import outcome_text, request_text
from remediator.reporting.formatting import format_time
from remediator.reporting.request_text import sanitize
from remediator.storage.repositories import attempts, comments, episodes, evidence, incidents
from remediator.storage.repositories.attempts import Attempt
from remediator.storage.repositories.evidence import EvidenceRecord
from remediator.storage.repositories.incidents import Note


@dataclass(frozen=True, slots=True)
class IncidentRun:
    """A run of an incident, with its displayed data."""

    run: Run
    alerts: Sequence[Episode]
    evidence: Sequence[EvidenceRecord]
    attempts: Sequence[Attempt]
    acknowledged_by: str | None = None
    """The person who takes care of the run; None without an acknowledgement."""

    @property
    def fires(self) -> bool:
        """Return whether an alert of the run fires."""
        return any(alert.status is EpisodeStatus.FIRING for alert in self.alerts)

    @property
    def needs_people(self) -> bool:
        """Return whether the run was handed over to people, and its alerts are not over.

        A run that a person started has no alert that ends, so it needs people until a person acknowledges it.
        """
        if self.run.status not in (Status.ESCALATED, Status.FAILED):
            return False
        unhandled = self.acknowledged_by is None and any(item.kind is EpisodeKind.MANUAL for item in self.alerts)
        return unhandled or any(alert.status is not EpisodeStatus.CLOSED for alert in self.alerts)

    def line(self) -> str:
        """Return the beginning of the run, its alerts, and its result."""
        run = self.run
        state = run.status.value.replace("_", " ")
        if run.finished_at is not None and run.status is not Status.SUCCEEDED:
            state = f"{state}: {outcome_text.headline(run, self.attempts)}"
        if run.relapsed:
            state = "succeeded, then relapsed"
        if self.acknowledged_by is not None and self.run.status is not Status.SUCCEEDED:
            state = f"{state} ({self.acknowledged_by} takes care of it)"
        names = ", ".join(sorted({alert.alertname for alert in self.alerts}))
        return sanitize(f"{format_time(run.created_at)} {names}: {run.playbook} on {run.target}: {state}")


@dataclass(frozen=True, slots=True)
class Incident:
    """The runs whose alerts belong together, the oldest first, and the notes about them."""

    id: str
    runs: Sequence[IncidentRun]
    notes: Sequence[Note]

    @property
    def began_at(self) -> datetime:
        """Return when its first alert fired."""
        first = (alert.started_at for item in self.runs for alert in item.alerts)
        return min(first, default=self.runs[0].run.created_at)

    @property
    def over(self) -> bool:
        """Return whether every run has ended, and healed its fault for good or has no alert that fires any more."""
        if self.runs[-1].run.relapsed:
            return False  # the newest run relapsed, so only a newer run can end the incident
        return all(
            item.run.finished_at is not None
            and not item.needs_people
            and ((item.run.status is Status.SUCCEEDED and not item.run.relapsed) or not item.fires)
            for item in self.runs
        )

    @property
    def severity(self) -> str:
        """Return the highest severity of its alerts, in the terms of pagers; ``warning`` if no alert has a severity."""
        return highest_severity([alert for item in self.runs for alert in item.alerts])

    @property
    def causes(self) -> tuple[str, ...]:
        """Return the likely causes: of the newest run with a typed cause; without one, of the newest run with a hint.

        A later, better cause replaces an earlier one.
        """
        found = [(item, request_text.cause_lines(item.evidence)) for item in reversed(self.runs)]
        typed = (lines for item, lines in found if lines and _is_typed(item.evidence))
        return next(typed, None) or next((lines for _, lines in found if lines), ())

    @property
    def lead(self) -> IncidentRun:
        """Return the run that matters most: the newest that needs people, or waits, else the newest one."""
        order: tuple[Sequence[IncidentRun], ...] = (
            [item for item in self.runs if item.run.status is Status.AWAITING_APPROVAL],
            [item for item in self.runs if item.needs_people],
            [item for item in self.runs if item.run.finished_at is None],
            [item for item in self.runs if item.run.status is not Status.CANCELLED],
            self.runs,
        )
        return next(items[-1] for items in order if items)

    def other_lines(self, shown: str) -> tuple[str, ...]:
        """Return a line for each run but the shown one, and the notes."""
        lines = [item.line() for item in self.runs if item.run.id != shown]
        return (
            *lines,
            *(sanitize(f"{format_time(item.at)} {item.text}; no person was notified") for item in self.notes),
        )

    def to_data(self) -> dict[str, Any]:
        """Return the incident for the API and ``--format json``."""
        return {
            "id": self.id,
            "began_at": rfc3339(self.began_at),
            "over": self.over,
            "severity": self.severity,
            "causes": list(self.causes),
            "runs": [_run_data(item) for item in self.runs],
            "notes": [{"run": item.run_id, "at": rfc3339(item.at), "text": item.text} for item in self.notes],
        }


def _run_data(item: IncidentRun) -> Mapping[str, Any]:
    return {
        "id": item.run.id,
        "playbook": item.run.playbook,
        "target": item.run.target,
        "status": item.run.status.value,
        "reason": item.run.reason,
        "created_at": rfc3339(item.run.created_at),
        "alerts": sorted({alert.alertname for alert in item.alerts}),
        "fires": item.fires,
        "line": item.line(),
        "acknowledged_by": item.acknowledged_by,
    }


def _is_typed(seen: Sequence[EvidenceRecord]) -> bool:
    newest = [item for item in seen if item.phase == "conclude"]
    return any(item.facts.get("typed") for item in newest)


def load_incident(connection: Connection, incident_id: str) -> Incident | None:
    """Return an incident from one snapshot of the store, or None."""
    found = [
        IncidentRun(
            run,
            episodes.list_for_run(connection, run.id),
            evidence.list_for_run(connection, run.id),
            attempts.list_for_run(connection, run.id),
            comments.acknowledged_by(connection, run.id),
        )
        for run in incidents.list_runs(connection, incident_id)
    ]
    return Incident(incident_id, found, incidents.list_notes(connection, incident_id)) if found else None
