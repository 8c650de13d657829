"""The messages to people. Every channel gets the same facts.

A message is rendered when it is sent, from the current state of the store. A request that waited in the outbox
therefore never shows outdated facts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from remediator.core import approval as rules
from remediator.core.alert import instant
from remediator.core.approval import BUTTON, ApprovalLink
from remediator.core.clock import rfc3339
from remediator.core.cost import excess
from remediator.core.plan import Plan, PlannedStep
from remediator.core.run import TERMINAL, Episode, Reason, Run, Status
from remediator.core.run_detail import AwaitingApprovalDetail
from remediator.core.text import printable
from remediator.core.tokens import Keyring
from remediator.extensions.notifiers.base import Ask, Message, Notifier, Section, Tone
from remediator.pipeline import condition_scope
from remediator.playbooks import cel
from remediator.reporting.formatting import format_age, format_datetime, format_time
from remediator.storage.repositories import approvals, episodes, evidence, runs
from remediator.storage.repositories.approvals import SNOOZED, Approval
from remediator.storage.repositories.evidence import EvidenceRecord
from remediator.storage.repositories.outbox import HELD_BACK, OutboxMessage

_MAX_LINE = 400
_MAX_TITLE = 200
_MAX_CALL = 8000
"""Calls have much room: approvers must see exactly what they approve. A channel that cuts a call says so."""
_MAX_ALERTS = 5
_MAX_EVIDENCE = 6
_VOID_REASONS = {
    "resolved": "the alert was resolved",
    "cancelled": "the run was cancelled",
    "deadline": "the run reached its time limit",
}
_DECIDED = {"approve": "approved", "reject": "rejected", "snooze": "snoozed"}
_URGENT = ("break glass", "watchdog", "storm", "playbooks", "dead letter")
"""Topics of notices that are shown as a problem."""


def sanitize(text: object, limit: int = _MAX_LINE) -> str:
    """Return text on one line of limited length, without control characters and without characters that change the
    direction of text."""
    clean = " ".join(printable(str(text), " ").split())
    return clean if len(clean) <= limit else clean[: limit - 1] + "…"


def quote_alert(text: object) -> str:
    """Return text of an alert as a quotation. Everyone who can send an alert can write it, so it must not look like a
    statement of this service among the facts that people decide by."""
    inner = sanitize(text).translate({ord("“"): "'", ord("”"): "'"})
    return f"the alert says: “{inner}”"


@dataclass(frozen=True, slots=True)
class MessageRenderer:
    """Renders messages.

    Args:
        keyring: signs the links.
        public_url: the address of the console, without a slash at its end. If empty, messages have no links.
    """

    keyring: Keyring
    public_url: str

    def render(
        self, connection: Connection, queued: OutboxMessage, notifier: Notifier, name: str, now: datetime
    ) -> Message:
        """Return the message for a channel, from the current state of the store."""
        run = None if queued.run_id is None else runs.get(connection, queued.run_id)
        link = f"{self.public_url}/runs/{run.id}" if run is not None and self.public_url else ""
        if run is not None and queued.kind in ("approval", "update"):
            approval = approvals.get(connection, str(queued.content.get("approval", "")))
            if approval is not None:
                return self._request(connection, queued, run, approval, link, notifier, name, now)
        if run is not None and queued.kind == "escalation":
            return _escalation(connection, queued, run, link)
        if run is not None and queued.kind == HELD_BACK:
            return _held_back(connection, queued, run, link)
        return _notice(queued, run, link)

    def _request(
        self,
        connection: Connection,
        queued: OutboxMessage,
        run: Run,
        approval: Approval,
        link: str,
        notifier: Notifier,
        name: str,
        now: datetime,
    ) -> Message:
        assert run.plan is not None, "a request belongs to a plan"
        plan = run.plan
        pending = approval.status == "pending" and now < approval.expires_at
        final = run.status in TERMINAL
        seen = evidence.list_for_run(connection, run.id)
        sections = [
            Section("Alerts", tuple(alert_lines(episodes.list_for_run(connection, run.id), now))),
            Section(
                "Planned calls" if pending else "Plan of this request",
                tuple(call_lines(plan, approval.step, seen)),
                exact=True,
            ),
            Section("Risks", tuple(risk_lines(plan, approval.step))),
            *_findings(seen),
        ]
        if pending:
            title, tone = "Approve?", Tone.ASK
            command = f"To decide, run: remediator approval approve {approval.id} (or reject, snooze)"
            lines = (deadline_text(approval, now), f"Who may approve: {approvers_text(approval)}")
            sections.append(Section("Why approval is needed", (approval_reason(run),)))
            sections.append(Section("Approvers and deadline", lines if self.public_url else (*lines, command)))
        else:
            title, tone = f"{outcome_text(run, approval)}:", Tone.NOTE
            if run.status is Status.SUCCEEDED:
                tone = Tone.GOOD
            elif final and run.status is not Status.CANCELLED:
                tone = Tone.PROBLEM
            decisions = [
                f"{_DECIDED.get(item.verb, item.verb)} by {item.identity} at {format_time(item.at)}"
                for item in approvals.list_decisions(connection, approval.id)
            ]
            sections.insert(0, Section("Result", (outcome_text(run, approval), *decisions)))
        return Message(
            id=queued.id,
            run_id=run.id,
            kind=queued.kind,
            title=sanitize(f"{title} {run.playbook} on {run.target}", _MAX_TITLE),
            tone=tone,
            sections=tuple(sections),
            ask=self._ask(run, approval, plan, notifier, name, now) if pending else None,
            link=link,
            body={
                "approval": approval.id,
                "approval_status": approval.status,
                "expires_at": rfc3339(approval.expires_at),
                "quorum": approval.quorum,
                "groups": list(approval.groups),
                "run": run.id,
                "run_status": run.status.value,
                "playbook": run.playbook,
                "target": run.target,
                "plan_hash": approval.plan_hash,
            },
            final=final,
        )

    def _ask(self, run: Run, approval: Approval, plan: Plan, notifier: Notifier, name: str, now: datetime) -> Ask:
        person = notifier.person
        audience = f"person:{person}" if person else f"channel:{name}"
        link = ApprovalLink(approval.id, run.id, approval.plan_hash, audience, approval.expires_at)
        url = f"{self.public_url}/approve/{link.token(self.keyring, now)}" if self.public_url else ""
        buttons = {}
        if notifier.identifies_people:
            value = link.token(self.keyring, now, BUTTON)
            # a destructive plan has no approve button: on the page, the approver must type the name of the target
            verbs = ("reject", "snooze") if rules.is_destructive(plan) else ("approve", "reject", "snooze")
            buttons = dict.fromkeys((*verbs, "pause"), value)
        return Ask(approval.id, approval.expires_at, approvers_text(approval), url, buttons)


def outcome_text(run: Run, approval: Approval) -> str:
    """Return the outcome of a request, and of the run after it, in a few words."""
    if run.status is Status.SUCCEEDED:
        return "Healed"
    if approval.status == "approved":
        after = {
            Status.FAILED: "Approved, but the run failed",
            Status.ESCALATED: "Approved, but the run was escalated",
            Status.CANCELLED: "Approved, then the run was cancelled",
        }
        return after.get(run.status, "Approved")
    if approval.status != "void":
        return "Rejected" if approval.status == "rejected" else "Expired"  # a pending request is past its deadline here
    reason = void_reason(approval)
    if reason.startswith(SNOOZED):
        return sanitize(reason[0].upper() + reason[1:], _MAX_TITLE)
    return sanitize(f"Void ({reason})" if reason else "Void", _MAX_TITLE)


def void_reason(approval: Approval) -> str:
    """Return why a request is outdated; empty if no reason is stored."""
    return _VOID_REASONS.get(approval.reason or "", approval.reason or "")


def alert_lines(alerts: Sequence[Episode], now: datetime) -> Iterator[str]:
    """Yield each alert with its labels, its state and since when, and its summary. At most five alerts."""
    for alert in alerts[:_MAX_ALERTS]:
        labels = ", ".join(f"{name}={value}" for name, value in sorted(alert.labels.items()) if name != "alertname")
        since = f"since {format_time(alert.started_at)} ({format_age(now - alert.started_at)} ago)"
        yield sanitize(f"{alert.alertname} {{{labels}}} {alert.status.value} {since}")
        summary = alert.annotations.get("summary") or alert.annotations.get("description")
        if summary:
            yield quote_alert(summary)
    if len(alerts) > _MAX_ALERTS:
        yield f"and {len(alerts) - _MAX_ALERTS} more"


def mutating_steps(plan: Plan, only: str | None = None) -> list[PlannedStep]:
    """Return the steps that change something; only the given one if a request is for one step."""
    return [step for step in plan.steps if step.mutates and only in (None, step.id)]


def call_lines(plan: Plan, only: str | None = None, seen: Sequence[EvidenceRecord] = ()) -> Iterator[str]:
    """Yield the exact calls in order, each with its condition: whether it holds, or when the step runs."""
    steps = mutating_steps(plan, only)
    for number, step in enumerate(steps, start=1):
        head = f"{number}. " if len(steps) > 1 else ""
        note = " (only if the previous step did not help)" if number > 1 else ""
        condition = ""
        if step.when is not None:
            expression = cel.compile(step.when)
            later = any(reference.root in ("steps", "target") for reference in expression.references)
            scope = condition_scope.variables(plan.parameters, ("", ""), seen, cost=step.cost)
            holds = None if later else expression.evaluate(scope)
            if holds is False:
                note = " (skipped: condition not met)"
            if holds is not True:
                condition = f" (only if {step.when})"
        yield sanitize(f"{head}{step.title}{note}: {step.call.summary}{condition}", _MAX_CALL)
    if not steps:
        yield "no step changes anything"


def risk_lines(plan: Plan, only: str | None = None) -> Iterator[str]:
    """Yield what each step costs, as measured, what it may break or lose, and how it is undone."""
    for step in mutating_steps(plan, only):
        if step.destructive:
            yield sanitize(f"{step.title}: DESTROYS DATA that cannot be restored")
        if step.cost.text:
            yield sanitize(f"{step.title}: cost: {step.cost.text}")
        for loss in excess(step.cost, step.tolerance):
            yield sanitize(f"{step.title}: ABOVE THE TOLERANCE: {loss}")
        if step.call.risk:
            yield sanitize(f"{step.title}: {step.call.risk}")
        yield sanitize(f"{step.title}: {f'undo: {step.call.undo}' if step.call.undo else 'cannot be undone'}")


def evidence_lines(seen: Sequence[EvidenceRecord]) -> Iterator[str]:
    """Yield the newest observation of each check, failed ones first. At most six."""
    newest = {item.name: item for item in seen if item.phase != "conclude"}
    for item in sorted(newest.values(), key=lambda item: item.status == "ok")[:_MAX_EVIDENCE]:
        yield sanitize(f"{item.name} {item.status}: {item.summary}")


def _findings(seen: Sequence[EvidenceRecord]) -> Iterator[Section]:
    """Yield the sections with the likely cause and the evidence, if there are any."""
    causes = tuple(sanitize(item.summary) for item in seen if item.phase == "conclude")
    for heading, lines in (("Likely cause", causes), ("Evidence", tuple(evidence_lines(seen)))):
        if lines:
            yield Section(heading, lines)


def approval_reason(run: Run) -> str:
    """Return why a run needs an approval."""
    detail = run.detail if isinstance(run.detail, AwaitingApprovalDetail) else AwaitingApprovalDetail()
    if run.reason is Reason.CONDITION_UNKNOWN:
        return sanitize(f"step {detail.step}: {detail.text}")
    if run.reason is Reason.GUARD_UNKNOWN:
        return sanitize(f"guard {detail.guard} answered unknown: {detail.text}")
    if run.reason is Reason.STEP_NEEDS_APPROVAL:
        return sanitize(f"step {detail.step} needs an approval in every mode")
    return f"this playbook runs in mode {run.mode}"


def approvers_text(approval: Approval) -> str:
    """Return who may approve a request."""
    who = f"members of {', '.join(approval.groups)}" if approval.groups else "any approver"
    return sanitize(who if approval.quorum == 1 else f"{approval.quorum} different people: {who}")


def deadline_text(approval: Approval, now: datetime) -> str:
    """Return when a request expires, and what happens then."""
    left = format_age(approval.expires_at - now)
    return (
        f"Expires at {format_datetime(approval.expires_at)} (in {left}). "
        "Without a decision, nothing is done and the run is escalated."
    )


def _escalation(connection: Connection, queued: OutboxMessage, run: Run, link: str) -> Message:
    status, reason = queued.content.get("status", "escalated"), queued.content.get("reason")
    state = f"{status}: {str(reason).replace('_', ' ')}" if reason else str(status)
    details, detail = [], queued.content.get("detail")
    if isinstance(detail, Mapping):
        for name in ("text", "message", "why", "observed", "missing"):
            if value := detail.get(name):
                details.append(sanitize("; ".join(map(str, value)) if isinstance(value, list) else value))
    advice = "" if run.plan is None else run.plan.escalate_message
    command = f"To see everything that happened, run: remediator run show {run.id}"
    sections = [
        Section("Result", (sanitize(f"Status: {state}"), *details)),
        Section("Alerts", tuple(alert_lines(episodes.list_for_run(connection, run.id), queued.created_at))),
        *_findings(evidence.list_for_run(connection, run.id)),
        Section("Next step", tuple(sanitize(line) for line in (advice, "" if link else command) if line)),
    ]
    return Message(
        id=queued.id,
        run_id=run.id,
        kind=queued.kind,
        title=sanitize(f"Action needed: {run.playbook} on {run.target} ({state})", _MAX_TITLE),
        tone=Tone.PROBLEM,
        sections=tuple(section for section in sections if section.lines),
        link=link,
        body={"run": run.id, "playbook": run.playbook, "target": run.target, **dict(queued.content)},
        final=True,
    )


def _held_back(connection: Connection, queued: OutboxMessage, run: Run, link: str) -> Message:
    """Return the message that a guard blocks a run: the state, the reason, until when, and the next action."""
    content = queued.content
    since, until = instant(str(content["since"])), content.get("until")
    blocked = run.status is Status.BLOCKED
    state = f"Status: {run.status.value}. Guard {content['guard']} blocks the run since {format_datetime(since)}."
    if not blocked:
        state = f"Status: {run.status.value}. Guard {content['guard']} blocked the run at {format_datetime(since)}."
    wait = "No end is known. The guards are evaluated again about every minute."
    if until is not None:
        wait = f"Until {format_datetime(instant(str(until)))}, unless the block ends earlier."
    advice = "" if run.plan is None else run.plan.escalate_message
    command = f"To see everything that happened, run: remediator run show {run.id}"
    following = (
        "The run continues automatically when all guards allow it. If that is too late, fix the fault yourself.",
        advice,
        "" if link else command,
    )
    sections = [
        Section("Result", (sanitize(state), sanitize(f"Reason: {content['text']}"))),
        Section("Until when", (wait,) if blocked else ()),
        Section("Alerts", tuple(alert_lines(episodes.list_for_run(connection, run.id), queued.created_at))),
        *_findings(evidence.list_for_run(connection, run.id)),
        Section("Next step", tuple(sanitize(line) for line in following if line)),
    ]
    return Message(
        id=queued.id,
        run_id=run.id,
        kind=queued.kind,
        title=sanitize(f"Held back: {run.playbook} on {run.target} (guard {content['guard']})", _MAX_TITLE),
        tone=Tone.PROBLEM,
        sections=tuple(section for section in sections if section.lines),
        link=link,
        body={"run": run.id, "playbook": run.playbook, "target": run.target, **dict(content)},
        final=True,
    )


def _notice(queued: OutboxMessage, run: Run | None, link: str) -> Message:
    text = queued.content.get("text") or queued.content.get("why") or queued.content.get("about") or queued.kind
    about = f" ({run.playbook} on {run.target})" if run is not None else ""
    return Message(
        id=queued.id,
        run_id=queued.run_id,
        kind=queued.kind,
        title=sanitize(f"{text}{about}", _MAX_TITLE),
        tone=Tone.PROBLEM if queued.content.get("about") in _URGENT else Tone.NOTE,
        link=link,
        body=dict(queued.content),
    )
