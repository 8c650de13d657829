"""The messages to people. Every channel gets the same facts.

A message is rendered when it is sent, from the current state of the store. A request that waited in the outbox
therefore never shows outdated facts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from remediator.core.alert import instant
from remediator.core.approval import BUTTON, ApprovalLink, ApprovalStatus, short_button
from remediator.core.clock import rfc3339
from remediator.core.message import ROOTS, MessageKind
from remediator.core.run import TERMINAL, EpisodeKind, EpisodeStatus, Run, Status
from remediator.core.run_detail import BlockedDetail
from remediator.core.tokens import Keyring
from remediator.extensions.notifiers.base import NEXT_STEP, Ask, Message, Notifier, Section, Tone
from remediator.pipeline.held_back import held_back_content
from remediator.pipeline.manual_undo import undoable_steps
from remediator.reporting import outcome_text, request_text
from remediator.reporting.formatting import format_age, format_datetime
from remediator.reporting.incidents import Incident, load_incident
from remediator.reporting.request_text import MAX_TITLE, sanitize
from remediator.reporting.request_view import RequestView
from remediator.storage.repositories import approvals, attempts, episodes, evidence, outbox, runs
from remediator.storage.repositories.approvals import Approval
from remediator.storage.repositories.outbox import OutboxMessage

_RUN_BUTTON_LIFE = timedelta(days=7)
"""How long the buttons about a run work."""
_URGENT = ("break glass", "watchdog", "storm", "playbooks", "dead letter", "undo failed", "stop")
"""Topics of notices that are shown as a problem."""


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
        if run is None:
            return _notice(queued, None, "")
        if queued.kind not in (*ROOTS, MessageKind.REMINDER, MessageKind.UPDATE):
            return _notice(queued, run, self._link(run))
        incident = load_incident(connection, run.incident_id)
        assert incident is not None, "a run belongs to an incident"
        first = _first_message(connection, queued)
        approval = self._approval(connection, queued, first)
        if approval is not None:
            message = self._request(connection, queued, approval, notifier, name, now)
        else:
            message = self._about_incident(connection, queued, run, incident, now)
        buttons = self._run_buttons(connection, message, notifier, name, now)
        return replace(_of_incident(message, incident, first), buttons=buttons)

    def _approval(self, connection: Connection, queued: OutboxMessage, first: OutboxMessage | None) -> Approval | None:
        """Return the request that a message shows: its own request, or the pending request of the message to update.

        News about the incident, such as a relapse or an escalation, replaces the request in its message.
        """
        own = first is None or "approval" in queued.content
        shown = queued if own or first is None else first
        found = approvals.get(connection, str(shown.content.get("approval", "")))
        if queued.kind == MessageKind.UPDATE and not own:
            pending = found is not None and found.status == ApprovalStatus.PENDING and "about" not in queued.content
            return found if pending else None
        return found

    def _about_incident(
        self, connection: Connection, queued: OutboxMessage, run: Run, incident: Incident, now: datetime
    ) -> Message:
        """Return a message about the reported run, or for a silent update, about the most important run."""
        about = str(queued.content.get("about", queued.kind))
        shown, content = run, dict(queued.content)
        if about == MessageKind.UPDATE:
            lead = incident.lead
            shown = lead.run
            content = {"status": shown.status.value, "reason": shown.reason, "detail": shown.detail.to_data()}
            if isinstance(shown.detail, BlockedDetail) and shown.detail.guard:
                about = MessageKind.HELD_BACK
                content = held_back_content(shown.detail, shown)
            elif lead.needs_people:
                about = MessageKind.ESCALATION
        link = self._link(shown)
        if about == MessageKind.HELD_BACK:
            return _held_back(connection, queued, shown, content, link, now)
        if about == MessageKind.ESCALATION:
            return _escalation(connection, queued, shown, content, link, now)
        return _progress(connection, queued, shown, incident, link, now)

    def _link(self, run: Run) -> str:
        return f"{self.public_url}/runs/{run.id}" if self.public_url else ""

    def _request(
        self,
        connection: Connection,
        queued: OutboxMessage,
        approval: Approval,
        notifier: Notifier,
        name: str,
        now: datetime,
    ) -> Message:
        run = runs.get(connection, approval.run_id)
        assert run is not None, "a request belongs to a run"
        view = RequestView.load(connection, approval, run)
        pending, ended = view.pending(now), run.status in TERMINAL
        sections = view.sections(now)
        if pending:
            title, tone = "Approve?", Tone.ASK
            if queued.kind is MessageKind.REMINDER:
                left = format_age(approval.expires_at - now)
                title = f"Reminder: no decision yet ({left} left):"
                shown = ("Planned calls", "Approvers and deadline")
                sections = [section for section in sections if section.heading in shown]
            elif queued.kind is MessageKind.PAGE:
                title = f"No decision yet ({format_age(approval.expires_at - now)} left). Approve?"
            if not self.public_url:
                command = f"To decide, run: remediator approval approve {approval.id} (or reject, snooze)"
                sections.append(Section("Decide", (command,)))
        else:
            title, tone = f"{request_text.outcome_text(run, approval)}:", Tone.NOTE
            sections = [replace(sections[0], lines=view.result()[1:]), *sections[1:]]  # the title has the first line
            if run.status is Status.SUCCEEDED:
                tone = Tone.GOOD
            elif ended and run.status is not Status.CANCELLED:
                tone = Tone.PROBLEM
        return Message(
            id=queued.id,
            run_id=run.id,
            kind=queued.kind,
            title=sanitize(f"{title} {run.playbook} on {run.target}", MAX_TITLE),
            tone=tone,
            sections=tuple(section for section in sections if section.lines),
            ask=self._ask(run, approval, notifier, name, now) if pending else None,
            link=self._link(run),
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
            announce=ended
            and not outbox.is_escalated_in(connection, run.id, name)
            and outbox.is_first_request(connection, queued, name),
        )

    def _ask(self, run: Run, approval: Approval, notifier: Notifier, name: str, now: datetime) -> Ask:
        person = notifier.person
        audience = f"person:{person}" if person else f"channel:{name}"
        link = ApprovalLink(approval.id, run.id, approval.plan_hash, audience, approval.expires_at)
        url = f"{self.public_url}/approve/{link.token(self.keyring, now)}" if self.public_url else ""
        buttons = {}
        if notifier.identifies_people:
            # a destructive plan has no approve button: on the page, the approver must type the name of the target
            verbs = ("reject", "snooze") if approval.destructive else ("approve", "reject", "snooze")
            buttons = {verb: self._button(notifier, verb, link, now) for verb in (*verbs, "pause")}
        return Ask(approval.id, approval.expires_at, request_text.approvers_text(approval), url, buttons)

    def _button(self, notifier: Notifier, verb: str, link: ApprovalLink, now: datetime) -> str:
        """Return the signed value of a button, short where the chat allows few bytes."""
        if notifier.short_buttons:
            return short_button(self.keyring, verb, link.approval or link.run, link.plan)
        return link.token(self.keyring, now, BUTTON)

    def _run_buttons(
        self, connection: Connection, message: Message, notifier: Notifier, name: str, now: datetime
    ) -> Mapping[str, str]:
        """Return the buttons for the run of a message: acknowledge it, silence its alerts, or undo its actions."""
        run = None if message.run_id is None else runs.get(connection, message.run_id)
        if run is None or not notifier.identifies_people or message.ask is not None:
            return {}
        verbs: list[str] = []
        if message.tone is Tone.PROBLEM:
            alerts = episodes.list_for_run(connection, run.id)
            fires = any(item.status is EpisodeStatus.FIRING and item.kind is EpisodeKind.ALERT for item in alerts)
            verbs = ["acknowledge", "silence"] if fires else ["acknowledge"]
        if undoable_steps(run, attempts.list_for_run(connection, run.id)):
            verbs.append("undo")
        link = ApprovalLink("", run.id, "", f"channel:{name}", now + _RUN_BUTTON_LIFE)
        return {verb: self._button(notifier, verb, link, now) for verb in verbs}


def _first_message(connection: Connection, queued: OutboxMessage) -> OutboxMessage | None:
    """Return the message that an update changes, or that a later message of the incident belongs to."""
    of = str(queued.content.get("of", ""))
    if of:
        return outbox.get(connection, of)
    first = outbox.first_of_incident(connection, queued)
    return None if first is None or first.id == queued.id else first


def _of_incident(message: Message, incident: Incident, first: OutboxMessage | None) -> Message:
    """Add the common parts of messages about an incident: its key, severity, other runs and best cause."""
    others = incident.other_lines(message.run_id or "")
    sections = [item for item in message.sections if item.heading not in ("Likely cause", "Same incident")]
    if incident.causes:
        headings = [item.heading for item in sections]
        after = headings.index("Alerts") + 1 if "Alerts" in headings else 1
        sections.insert(after, Section("Likely cause", incident.causes))
    if others:
        sections.append(Section("Same incident", others))
    return replace(
        message,
        sections=tuple(sections),
        incident=incident.id,
        severity=incident.severity,
        over=incident.over,
        mention=message.tone in (Tone.ASK, Tone.PROBLEM),
        thread={} if first is None or first.receipt is None else first.receipt,
    )


def _escalation(
    connection: Connection, queued: OutboxMessage, run: Run, content: Mapping[str, Any], link: str, now: datetime
) -> Message:
    """Return the message that people are needed: the events, the likely cause, and the next action."""
    tried, seen = attempts.list_for_run(connection, run.id), evidence.list_for_run(connection, run.id)
    alerts = episodes.list_for_run(connection, run.id)
    decisions = (
        decision
        for approval in approvals.list_for_run(connection, run.id)
        for decision in approvals.list_decisions(connection, approval.id)
    )
    said = [request_text.decision_line(item) for item in decisions]
    fires = any(alert.status is EpisodeStatus.FIRING for alert in alerts)
    advice = "" if run.plan is None else outcome_text.context_line(run.plan.escalate_message, seen)
    command = f"To see everything that happened, run: remediator run show {run.id}"
    following = (*outcome_text.next_step_lines(run, tried, fires=fires), advice, "" if link else command)
    state = outcome_text.headline(run, tried, content)
    sections = [
        Section("What happened", (*said, *outcome_text.what_happened(run, tried, content))),
        Section("Alerts", tuple(request_text.alert_lines(alerts, now))),
        Section("Evidence", tuple(request_text.evidence_lines(seen))),
        Section(NEXT_STEP, tuple(sanitize(line) for line in following if line)),
    ]
    title = f"Action needed: {run.playbook} on {run.target} ({state})"
    return _message(queued, run, title, Tone.PROBLEM, sections, link, content)


def _message(
    queued: OutboxMessage,
    run: Run,
    title: str,
    tone: Tone,
    sections: Sequence[Section],
    link: str,
    content: Mapping[str, Any],
) -> Message:
    return Message(
        id=queued.id,
        run_id=run.id,
        kind=queued.kind,
        title=sanitize(title, MAX_TITLE),
        tone=tone,
        sections=tuple(section for section in sections if section.lines),
        link=link,
        body={"run": run.id, "playbook": run.playbook, "target": run.target, **dict(content)},
        announce="about" in queued.content,
    )


def _progress(
    connection: Connection, queued: OutboxMessage, run: Run, incident: Incident, link: str, now: datetime
) -> Message:
    """Return the message of an incident that needs no person any more: it is over, or a run works on it."""
    tried, seen = attempts.list_for_run(connection, run.id), evidence.list_for_run(connection, run.id)
    alerts = episodes.list_for_run(connection, run.id)
    healed = run.status is Status.SUCCEEDED
    state = "Healed" if healed else "Over" if incident.over else "In progress"
    lines = outcome_text.result_lines(run, tried, seen) if run.finished_at is not None else ()
    if not lines:
        lines = (f"Run {run.status.value.replace('_', ' ')}: {run.detail.summary or run.playbook}",)
    if incident.over and not healed:
        lines = ("The alerts are over. Nothing more is needed.", *lines)
    sections = [
        Section("What happened", tuple(map(sanitize, lines))),
        Section("Alerts", tuple(request_text.alert_lines(alerts, now))),
    ]
    tone = Tone.GOOD if incident.over else Tone.NOTE
    title = f"{state}: {run.playbook} on {run.target}"
    message = _message(queued, run, title, tone, sections, link, {"run_status": run.status.value})
    return replace(message, announce=incident.over)


def _held_back(
    connection: Connection, queued: OutboxMessage, run: Run, content: Mapping[str, Any], link: str, now: datetime
) -> Message:
    """Return the message that a guard blocks a run: state, reason, end of the block, and next action."""
    since, until = instant(str(content["since"])), content.get("until")
    blocked = run.status is Status.BLOCKED
    state = f"Status: {run.status.value}. Guard {content['guard']} blocks the run since {format_datetime(since)}."
    if not blocked:
        state = f"Status: {run.status.value}. Guard {content['guard']} blocked the run at {format_datetime(since)}."
    wait = "No end is known. The guards are evaluated again about every minute."
    if until is not None:
        wait = f"Until {format_datetime(instant(str(until)))}, unless the block ends earlier."
    seen = evidence.list_for_run(connection, run.id)
    advice = "" if run.plan is None else outcome_text.context_line(run.plan.escalate_message, seen)
    command = f"To see everything that happened, run: remediator run show {run.id}"
    following = (
        "The run continues automatically when all guards allow it. If that is too late, fix the fault yourself.",
        advice,
        "" if link else command,
    )
    sections = [
        Section("Result", (sanitize(state), sanitize(f"Reason: {content['text']}"))),
        Section("Until when", (wait,) if blocked else ()),
        Section("Alerts", tuple(request_text.alert_lines(episodes.list_for_run(connection, run.id), now))),
        Section("Evidence", tuple(request_text.evidence_lines(seen))),
        Section(NEXT_STEP, tuple(sanitize(line) for line in following if line)),
    ]
    title = f"Blocked: {run.playbook} on {run.target} (guard {content['guard']})"
    return _message(queued, run, title, Tone.PROBLEM, sections, link, content)


def _notice(queued: OutboxMessage, run: Run | None, link: str) -> Message:
    text = queued.content.get("text") or queued.content.get("why") or queued.content.get("about") or queued.kind
    about = f" ({run.playbook} on {run.target})" if run is not None else ""
    return Message(
        id=queued.id,
        run_id=queued.run_id,
        kind=queued.kind,
        title=sanitize(f"{text}{about}", MAX_TITLE),
        tone=Tone.PROBLEM if queued.content.get("about") in _URGENT else Tone.NOTE,
        link=link,
        body=dict(queued.content),
        incident=queued.id.partition("~")[0],
        severity="error" if queued.content.get("about") in _URGENT else "info",
    )
