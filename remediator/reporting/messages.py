"""What messages say: the same facts for every channel, read from the store when the message is sent, so that a request
never shows what is not so any more."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from remediator.core import approval as words
from remediator.core.approval import BUTTON, ApprovalLink
from remediator.core.clock import format_duration, rfc3339
from remediator.core.plan import Plan, PlannedStep
from remediator.core.run import TERMINAL, Episode, Reason, Run, Status
from remediator.core.run_detail import AwaitingApprovalDetail
from remediator.core.tokens import Keyring
from remediator.extensions.notifiers.base import Ask, Message, Notifier, Section, Tone
from remediator.pipeline import condition_scope
from remediator.playbooks import cel
from remediator.storage.repositories import approvals, episodes, evidence, runs
from remediator.storage.repositories.approvals import SNOOZED, Approval
from remediator.storage.repositories.evidence import EvidenceRecord
from remediator.storage.repositories.outbox import OutboxMessage

_LINE = 400
_CALL = 8000
"""A call is shown whole: what people approve is never cut, except by a channel that says so."""
_EVIDENCE = 6
_GOOD = (Status.SUCCEEDED,)
_VOID = {
    "resolved": "the alert has resolved by itself",
    "cancelled": "the run was cancelled",
    "deadline": "the run took longer than it may",
}


def sanitize(text: object, limit: int = _LINE) -> str:
    """One line without control characters, without characters that turn the text's direction, and not endless."""
    clean = "".join(letter if _printable(letter) else " " for letter in str(text))
    clean = " ".join(clean.split())
    return clean if len(clean) <= limit else clean[: limit - 1] + "…"


def _printable(letter: str) -> bool:
    return unicodedata.category(letter) not in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")


@dataclass(frozen=True, slots=True)
class MessageRenderer:
    """Writes messages.

    Args:
        keyring: signs the links.
        public_url: how people reach the console, without a slash at its end; empty: messages have no links.
        link_life: how long a link shows what became of it, after the request is over.
    """

    keyring: Keyring
    public_url: str

    def write(
        self, connection: Connection, queued: OutboxMessage, notifier: Notifier, name: str, now: datetime
    ) -> Message:
        """The message for a channel, as things are now."""
        run = None if queued.run_id is None else runs.get(connection, queued.run_id)
        if run is None:
            return _notice(queued, run, self._run_link(None))
        if queued.kind in ("approval", "update"):
            found = approvals.get(connection, str(queued.content.get("approval", "")))
            if found is not None:
                return self._about(connection, queued, run, found, notifier, name, now)
        if queued.kind == "escalation":
            return _escalation(connection, queued, run, self._run_link(run))
        return _notice(queued, run, self._run_link(run))

    def _run_link(self, run: Run | None) -> str:
        return f"{self.public_url}/runs/{run.id}" if run is not None and self.public_url else ""

    def _about(
        self,
        connection: Connection,
        queued: OutboxMessage,
        run: Run,
        found: Approval,
        notifier: Notifier,
        name: str,
        now: datetime,
    ) -> Message:
        assert run.plan is not None, "a request is for a plan"
        plan = run.plan
        pending = found.status == "pending" and now < found.expires_at
        ask = self._ask(run, found, plan, notifier, name, now) if pending else None
        alerts = episodes.list_for_run(connection, run.id)
        said = approvals.list_decisions(connection, found.id)
        looked = evidence.list_for_run(connection, run.id)
        sections = [
            Section("What fires", tuple(fires(alerts, now))),
            Section(
                "What will be done" if pending else "What it was about", tuple(calls(plan, found.step, looked)), True
            ),
            Section("What it risks", tuple(risks(plan, found.step))),
        ]
        seen = tuple(proof(looked))
        sections += causes(looked)
        sections += [Section("Evidence", seen)] if seen else []
        if pending:
            sections.append(Section("Why you are asked", (why_asked(run),)))
            how = () if self.public_url else (f"decide by: remediator approve {found.id} (or reject, or snooze)",)
            sections.append(Section("Who may approve, and until when", (until(found, now), who_may(found), *how)))
        else:
            said_lines = [f"{item.identity} said {item.verb} at {item.at:%H:%M:%S}Z" for item in said]
            sections.insert(0, Section("What became of it", tuple([outcome_text(run, found), *said_lines])))
        final = run.status in TERMINAL
        return Message(
            id=queued.id,
            run_id=run.id,
            kind=queued.kind,
            title=_title(run, found, pending),
            tone=_tone(run, pending, final),
            sections=tuple(sections),
            ask=ask,
            link=self._run_link(run),
            body=_body(run, found),
            final=final,
        )

    def _ask(self, run: Run, found: Approval, plan: Plan, notifier: Notifier, name: str, now: datetime) -> Ask:
        person = notifier.person
        audience = f"person:{person}" if person else f"channel:{name}"
        link = ApprovalLink(found.id, run.id, found.plan_hash, audience, found.expires_at)
        url = f"{self.public_url}/approve/{link.token(self.keyring, now)}" if self.public_url else ""
        buttons = {}
        if notifier.proves_people:
            value = link.token(self.keyring, now, BUTTON)
            # what can destroy something is not approved by a thumb: the page asks for the target's name
            verbs = ("reject", "snooze") if words.destructive(plan) else ("approve", "reject", "snooze")
            buttons = dict.fromkeys((*verbs, "pause"), value)
        return Ask(found.id, found.expires_at, who_may(found), url, buttons)


def _title(run: Run, found: Approval, pending: bool) -> str:
    if pending:
        return sanitize(f"Approve? {run.playbook} on {run.target}", 200)
    return sanitize(f"{outcome_text(run, found)}: {run.playbook} on {run.target}", 200)


def _tone(run: Run, pending: bool, final: bool) -> Tone:
    if pending:
        return Tone.ASK
    if run.status in _GOOD:
        return Tone.GOOD
    return Tone.PROBLEM if final and run.status is not Status.CANCELLED else Tone.NOTE


def outcome_text(run: Run, found: Approval) -> str:
    """What a request has come to, in a few words, and the run after it."""
    told = {
        "approved": "Approved",
        "rejected": "Rejected",
        "expired": "Expired",
        "void": _voided(found),
        "pending": "Expired",  # asked for the past: the run is about to say so too
    }[found.status]
    if run.status is Status.SUCCEEDED:
        return "Healed"
    if found.status == "approved":
        return {
            Status.FAILED: "Approved, and it failed",
            Status.ESCALATED: "Approved, and it did not heal",
            Status.CANCELLED: "Approved, then cancelled",
        }.get(run.status, told)
    return sanitize(told, 200)


def _voided(found: Approval) -> str:
    why = why_void(found)
    if why.startswith(SNOOZED):
        return why[0].upper() + why[1:]
    return f"Void ({why})" if why else "Void"


def why_void(found: Approval) -> str:
    """Why a request is void, in words; empty if nobody said."""
    return _VOID.get(found.reason or "", found.reason or "")


def _body(run: Run, found: Approval) -> Mapping[str, Any]:
    return {
        "approval": found.id,
        "approval_status": found.status,
        "expires_at": rfc3339(found.expires_at),
        "quorum": found.quorum,
        "groups": list(found.groups),
        "run": run.id,
        "run_status": run.status.value,
        "playbook": run.playbook,
        "target": run.target,
        "plan_hash": found.plan_hash,
    }


def fires(alerts: Sequence[Episode], now: datetime) -> Iterator[str]:
    """What fires, on what, since when: one line for each alert, at most five."""
    for alert in alerts[:5]:
        labels = ", ".join(f"{name}={value}" for name, value in sorted(alert.labels.items()) if name != "alertname")
        since = f"since {alert.started_at:%H:%M:%S}Z ({format_duration(_whole(now - alert.started_at))})"
        yield sanitize(f"{alert.alertname} {{{labels}}} {alert.status.value} {since}")
        summary = alert.annotations.get("summary") or alert.annotations.get("description")
        if summary:
            yield sanitize(summary)
    if len(alerts) > 5:
        yield f"and {len(alerts) - 5} more"


def _whole(length: timedelta) -> timedelta:
    return timedelta(seconds=max(0, int(length.total_seconds())))


def acting(plan: Plan, only: str | None = None) -> list[PlannedStep]:
    """The steps that change something; only one of them, if a request is for that one."""
    return [step for step in plan.steps if step.mutates and only in (None, step.id)]


def calls(plan: Plan, only: str | None = None, seen: Sequence[EvidenceRecord] = ()) -> Iterator[str]:
    """The exact calls, in order; of those that depend on something, whether they are due as things are."""
    steps = acting(plan, only)
    for number, step in enumerate(steps, start=1):
        head = f"{number}. " if len(steps) > 1 else ""
        later = ", if the step before did not help" if number > 1 else ""
        left_out, only_if = _depends(plan, step, seen)
        yield sanitize(f"{head}{step.title}{left_out or later}: {step.call.summary}{only_if}", _CALL)
    if not steps:
        yield "nothing is changed"


def _depends(plan: Plan, step: PlannedStep, seen: Sequence[EvidenceRecord]) -> tuple[str, str]:
    """What is said of a step with a condition; nothing if it holds by what is known now."""
    if step.when is None:
        return "", ""
    condition = cel.compile(step.when)
    later = any(reference.root in ("steps", "target") for reference in condition.references)
    holds = None if later else condition.evaluate(condition_scope.variables(plan.parameters, ("", ""), seen))
    if holds is True:
        return "", ""
    return ", left out as things are" if holds is False else "", f" (only if {step.when})"


def risks(plan: Plan, only: str | None = None) -> Iterator[str]:
    """What may go wrong or get lost, and how it is put back."""
    for step in acting(plan, only):
        if step.destructive:
            yield sanitize(f"{step.title}: DESTROYS DATA that cannot be brought back")
        if step.call.risk:
            yield sanitize(f"{step.title}: {step.call.risk}")
        yield sanitize(f"{step.title}: {f'put back by: {step.call.undo}' if step.call.undo else 'cannot be undone'}")


def proof(seen: Sequence[EvidenceRecord]) -> Iterator[str]:
    """The observations that matter: what is not well first, the newest of each name."""
    newest = {item.name: item for item in seen if item.phase != "conclude"}
    ranked = sorted(newest.values(), key=lambda item: item.status == "ok")
    for item in ranked[:_EVIDENCE]:
        yield sanitize(f"{item.name} {item.status}: {item.summary}")


def why_asked(run: Run) -> str:
    """Why a person is asked at all."""
    detail = run.detail if isinstance(run.detail, AwaitingApprovalDetail) else AwaitingApprovalDetail()
    if run.reason is Reason.CONDITION_UNKNOWN:
        return sanitize(f"step {detail.step}: {detail.text}")
    if run.reason is Reason.GUARD_UNKNOWN:
        return sanitize(f"guard {detail.guard} cannot tell: {detail.text}")
    if run.reason is Reason.STEP_NEEDS_APPROVAL:
        return sanitize(f"step {detail.step} needs a person in every mode")
    return f"this playbook asks before it acts here (mode {run.mode})"


def who_may(found: Approval) -> str:
    """Who may approve, in words."""
    who = f"members of {', '.join(found.groups)}" if found.groups else "any approver"
    return sanitize(who if found.quorum == 1 else f"{found.quorum} different people: {who}")


def until(found: Approval, now: datetime) -> str:
    """Until when, in words."""
    left = format_duration(_whole(found.expires_at - now))
    return f"until {found.expires_at:%Y-%m-%d %H:%M:%S}Z ({left} from now); then the run goes to people"


def _escalation(connection: Connection, queued: OutboxMessage, run: Run, link: str) -> Message:
    alerts = episodes.list_for_run(connection, run.id)
    seen = evidence.list_for_run(connection, run.id)
    sections = [Section("What fires", tuple(fires(alerts, queued.created_at)))]
    words_ = tuple(_told(queued.content, run))
    status = queued.content.get("status", "escalated")
    if words_:
        sections.append(Section("What happened", words_))
    sections += causes(seen)
    found = tuple(proof(seen))
    sections += [Section("Evidence", found)] if found else []
    return Message(
        id=queued.id,
        run_id=run.id,
        kind=queued.kind,
        title=sanitize(f"A person is needed: {run.playbook} on {run.target} ({status})", 200),
        tone=Tone.PROBLEM,
        sections=tuple(sections),
        link=link,
        body={"run": run.id, "playbook": run.playbook, "target": run.target, **dict(queued.content)},
        final=True,
    )


def causes(seen: Sequence[EvidenceRecord]) -> list[Section]:
    """What the evidence points to, if it does."""
    found = tuple(sanitize(item.summary) for item in seen if item.phase == "conclude")
    return [Section("Likely cause", found)] if found else []


def _told(content: Mapping[str, Any], run: Run) -> Iterator[str]:
    message = "" if run.plan is None else run.plan.escalate_message
    if message:
        yield sanitize(message)
    if content.get("reason"):
        yield sanitize(f"reason: {content['reason']}")
    detail = content.get("detail")
    if isinstance(detail, Mapping):
        for name in ("text", "message", "why", "observed", "missing"):
            if detail.get(name):
                value = detail[name]
                yield sanitize("; ".join(map(str, value)) if isinstance(value, list) else value)


def _notice(queued: OutboxMessage, run: Run | None, link: str) -> Message:
    text = queued.content.get("text") or queued.content.get("why") or queued.content.get("about") or queued.kind
    about = f" ({run.playbook} on {run.target})" if run is not None else ""
    loud = queued.content.get("about") in ("break glass", "watchdog", "storm", "playbooks", "alert set aside")
    return Message(
        id=queued.id,
        run_id=queued.run_id,
        kind=queued.kind,
        title=sanitize(f"{text}{about}", 200),
        tone=Tone.PROBLEM if loud else Tone.NOTE,
        link=link,
        body=dict(queued.content),
    )
