"""An approval request with everything that people read about it, for messages, pages and the CLI."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from remediator.core.approval import ApprovalStatus
from remediator.core.run import Episode, Run, Status
from remediator.extensions.notifiers.base import Section
from remediator.reporting import outcome_text, request_text
from remediator.reporting.incidents import Incident, load_incident
from remediator.reporting.request_text import sanitize
from remediator.storage.repositories import approvals, attempts, episodes, evidence
from remediator.storage.repositories.approvals import Approval, Decision
from remediator.storage.repositories.attempts import Attempt
from remediator.storage.repositories.evidence import EvidenceRecord


@dataclass(frozen=True, slots=True)
class RequestView:
    """An approval request with everything that people read about it, from one snapshot of the store."""

    approval: Approval
    run: Run
    alerts: Sequence[Episode]
    evidence: Sequence[EvidenceRecord]
    attempts: Sequence[Attempt]
    decisions: Sequence[Decision]
    incident: Incident | None = None
    """The incident of the run."""
    before: Approval | None = None
    """The previous request of the run."""
    newer: Approval | None = None
    """The newest request of the run, if it is not this request."""

    @classmethod
    def load(cls, connection: Connection, approval: Approval, run: Run) -> RequestView:
        """Return the view of a request."""
        all_requests = approvals.list_for_run(connection, run.id)
        at = [item.id for item in all_requests].index(approval.id)
        return cls(
            approval,
            run,
            episodes.list_for_run(connection, run.id),
            evidence.list_for_run(connection, run.id),
            attempts.list_for_run(connection, run.id),
            approvals.list_decisions(connection, approval.id),
            load_incident(connection, run.incident_id),
            all_requests[at - 1] if at else None,
            all_requests[-1] if at + 1 < len(all_requests) else None,
        )

    def pending(self, now: datetime) -> bool:
        """Return whether the request waits for decisions."""
        return self.approval.status == ApprovalStatus.PENDING and now < self.approval.expires_at

    def sections(self, now: datetime) -> list[Section]:
        """Return the sections of the request, the most important first. The message, the e-mail and the CLI have all
        of it; the page has the same lines in its own layout."""
        pending = self.pending(now)
        found = self.approval
        calls = tuple(request_text.call_lines(found.plan, found.steps))
        sections = [
            Section("Result", () if pending else self.result()),
            Section("Alerts", tuple(request_text.alert_lines(self.alerts, now))),
            Section("Likely cause", self.causes),
            Section("Planned calls" if pending else "Plan of this request", calls, exact=True),
            Section("Changed since the last request", self.changed(), exact=True),
            Section("Planned after this request", self.later_plan(), exact=True),
            Section("Risks", tuple(request_text.risk_lines(found.plan, found.steps))),
            Section("Later steps", tuple(request_text.later_lines(found.plan, found.steps)) if pending else ()),
        ]
        if self.run.status is not Status.SUCCEEDED:  # the proof replaces earlier findings
            sections.append(Section("Evidence", tuple(request_text.evidence_lines(self.evidence))))
        if pending:
            lines = (request_text.deadline_text(found, now), f"Who may approve: {request_text.approvers_text(found)}")
            sections += [
                Section("Why approval is needed", (sanitize(found.why),)),
                Section("Approvers and deadline", lines),
            ]
        if self.incident is not None:
            sections.append(Section("Same incident", self.incident.other_lines(self.run.id)))
        return [section for section in sections if section.lines]

    @property
    def causes(self) -> tuple[str, ...]:
        """Return the likely causes of the incident: a later, better one replaces an earlier one."""
        return request_text.cause_lines(self.evidence) if self.incident is None else self.incident.causes

    def result(self) -> tuple[str, ...]:
        """Return the outcome of a decided request, the person and the reason, and the result."""
        said = (request_text.decision_line(item) for item in self.decisions)
        return (request_text.outcome_text(self.run, self.approval), *said, *self.happened())

    def happened(self) -> tuple[str, ...]:
        """Return the actions of the run after the request; empty while the run is open."""
        return outcome_text.result_lines(self.run, self.attempts, self.evidence)

    def changed(self) -> tuple[str, ...]:
        """Return the difference to the plan of the previous request; empty for the first request."""
        if self.before is None or self.before.status == ApprovalStatus.APPROVED:
            return ()
        return tuple(request_text.difference(self.before, self.approval.plan, self.approval.steps))

    def later_plan(self) -> tuple[str, ...]:
        """Return the current plan of the run, as a difference to the plan of this request; empty if both are equal."""
        if self.newer is not None:
            return tuple(request_text.difference(self.approval, self.newer.plan, self.newer.steps))
        if self.run.plan is None or self.run.plan_hash == self.approval.plan_hash:
            return ()
        return tuple(request_text.difference(self.approval, self.run.plan))
