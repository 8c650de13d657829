"""The texts of approval requests: the same words in messages, on pages, in the CLI and in documents."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from difflib import ndiff

from remediator.core.alert import ALERTMANAGER
from remediator.core.approval import ApprovalStatus
from remediator.core.cost import excess
from remediator.core.plan import Plan, PlannedStep
from remediator.core.run import Episode, EpisodeKind, EpisodeStatus, Run, Status
from remediator.core.text import MAX_LABEL, label_text, printable, shorten
from remediator.pipeline.due_steps import Follows, reached_after
from remediator.reporting.formatting import format_age, format_datetime, format_time
from remediator.storage.repositories.approvals import Approval, Decision
from remediator.storage.repositories.evidence import EvidenceRecord

MAX_LINE = 400
MAX_TITLE = 200
_MAX_CALL = 8000
"""Calls have much space: approvers must see the exact calls. A channel that cuts a call marks it."""
_MAX_ALERTS = 5
_MAX_EVIDENCE = 6
_VOID_REASONS = {
    "resolved": "the alert was resolved",
    "cancelled": "the run was cancelled",
    "deadline": "the run reached its time limit",
}
_DECIDED = {"approve": "Approved", "reject": "Rejected", "snooze": "Snoozed"}


def sanitize(text: object, limit: int = MAX_LINE) -> str:
    """Return text on one line of limited length, without control characters and without characters that change the
    direction of text."""
    clean = " ".join(printable(str(text), " ").split())
    return shorten(clean, limit)


def quote_alert(text: object) -> str:
    """Return text of an alert as a quotation. Everyone who can send an alert can write this text. So it must not look
    like a statement of this service among the facts that people decide by."""
    inner = sanitize(text).translate({ord("“"): "'", ord("”"): "'"})
    return f"the alert says: “{inner}”"


def alert_lines(alerts: Sequence[Episode], now: datetime) -> Iterator[str]:
    """Yield each alert with its labels, since when it fires or when it was resolved, and its summary. At most five."""
    for alert in alerts[:_MAX_ALERTS]:
        if alert.kind is EpisodeKind.MANUAL:
            yield manual_line(alert)
            continue
        labels = label_text(alert.labels, ("alertname",))
        name = f"{shorten(alert.alertname, MAX_LABEL)} {{{labels}}}{origin(alert)}"
        yield sanitize(f"{name} {alert_state(alert, now)}", 2 * MAX_LINE)
        summary = alert.annotations.get("summary") or alert.annotations.get("description")
        if summary:
            yield quote_alert(summary)
    if len(alerts) > _MAX_ALERTS:
        yield f"and {len(alerts) - _MAX_ALERTS} more"


def origin(alert: Episode) -> str:
    """Return the source of an alert, as text after its name; empty for Alertmanager."""
    return "" if alert.source == ALERTMANAGER else f" from {alert.source}"


def manual_line(episode: Episode) -> str:
    """Return who started a run by hand, when, and the reason that the person gave."""
    said = episode.annotations.get("reason", "")
    text = f"Started by {episode.annotations.get('started_by', 'a person')} at {format_time(episode.started_at)}"
    return sanitize(f"{text}: {said}" if said else text)


def alert_state(alert: Episode, now: datetime) -> str:
    """Return since when an alert fires; for a resolved alert, when it fired and was resolved."""
    fired = format_time(alert.started_at)
    if alert.status is EpisodeStatus.FIRING:
        return f"firing since {fired} ({format_age(now - alert.started_at)} ago)"
    if alert.resolved_at is None:
        return f"{alert.status.value}; it fired at {fired}"
    lasted = format_age(alert.resolved_at - alert.started_at)
    return f"resolved at {format_time(alert.resolved_at)}; it fired at {fired}, for {lasted}"


def mutating_steps(plan: Plan) -> list[PlannedStep]:
    """Return the steps that change something."""
    return [step for step in plan.steps if step.mutates]


def call_lines(plan: Plan, steps: Collection[str]) -> Iterator[str]:
    """Yield the exact calls of the due steps, in order, with the predecessor of each step.

    Args:
        plan: the plan.
        steps: IDs of the steps that are due.
    """
    due = [step for step in mutating_steps(plan) if step.id in steps]
    others = {step.id for step in mutating_steps(plan)} - set(steps)
    reached = reached_after(plan, due[0].id if due else None, others)
    for number, step in enumerate(due, start=1):
        head = f"{number}. " if len(due) > 1 else ""
        only_failure = reached.get(step.id) == frozenset({Follows.FAILURE})
        note = " (only if the previous step does not help)" if number > 1 and only_failure else ""
        yield sanitize(f"{head}{step.title}{note}: {step.call.summary}", _MAX_CALL)
    if not due:
        yield "no step changes anything"


def later_lines(plan: Plan, steps: Collection[str]) -> Iterator[str]:
    """Yield the steps that are not due, with their condition, and whether people are asked before they are done."""
    for step in mutating_steps(plan):
        if step.id in steps:
            continue
        asks = plan.mode == "approve" or plan.approval_required or step.approval or step.destructive
        why = f"only if {step.when}" if step.when else "not due now"
        if step.call.infeasible_reason:
            why = f"not possible now: {step.call.infeasible_reason}"
        following = "you are asked again before it is done" if asks else "it may follow automatically"
        yield sanitize(f"{step.title}: {why}; {following}")


def risk_lines(plan: Plan, steps: Collection[str]) -> Iterator[str]:
    """Yield the measured cost of each due step, its risk, and its undo."""
    for step in mutating_steps(plan):
        if step.id not in steps:
            continue
        if step.destructive:
            yield sanitize(f"{step.title}: DESTROYS DATA that cannot be restored")
        if step.cost.text:
            yield sanitize(f"{step.title}: cost: {step.cost.text}")
        for loss in excess(step.cost, step.tolerance):
            yield sanitize(f"{step.title}: ABOVE THE TOLERANCE: {loss}")
        if step.call.risk:
            yield sanitize(f"{step.title}: {step.call.risk}")
        yield sanitize(f"{step.title}: {f'can be undone: {step.call.undo}' if step.call.undo else 'cannot be undone'}")


def difference(before: Approval, after: Plan, steps: Collection[str] | None = None) -> list[str]:
    """Return the difference to the plan of a request: lines with ``-`` (was asked) and ``+`` (is planned now).

    Args:
        before: the request.
        after: the later plan.
        steps: IDs of the steps of the later plan that are due; None for the steps of the request.
    """
    old = [sanitize(f"{step.title}: {step.call.text}", _MAX_CALL) for step in before.due]
    chosen = before.steps if steps is None else steps
    new = [sanitize(f"{step.title}: {step.call.text}", _MAX_CALL) for step in after.steps if step.id in chosen]
    return [line for line in ndiff(old, new) if line.startswith(("- ", "+ "))]


def cause_lines(seen: Sequence[EvidenceRecord]) -> tuple[str, ...]:
    """Return the likely causes of the newest diagnosis: a later one replaces an earlier one."""
    concluded = [item for item in seen if item.phase == "conclude"]
    newest = max((item.at for item in concluded), default=None)
    return tuple(dict.fromkeys(sanitize(item.summary) for item in concluded if item.at == newest))


def evidence_lines(seen: Sequence[EvidenceRecord]) -> Iterator[str]:
    """Yield the newest observation of each check, failed ones first. At most six.

    Only a problem is marked: that something could be read does not mean that it is healthy.
    """
    order = {"fail": 0, "unknown": 1}
    newest = {item.name: item for item in seen if item.phase != "conclude"}
    for item in sorted(newest.values(), key=lambda item: order.get(item.status, 2))[:_MAX_EVIDENCE]:
        mark = {"fail": "failed: ", "unknown": "unknown: "}.get(item.status, "")
        yield sanitize(f"{item.name}: {mark}{item.summary}")


def outcome_text(run: Run, approval: Approval) -> str:
    """Return the outcome of a request, and of the run after it, in a few words."""
    if run.status is Status.SUCCEEDED:
        return "Healed"
    if approval.status == ApprovalStatus.APPROVED:
        after = {
            Status.FAILED: "Approved, but the run failed",
            Status.ESCALATED: "Approved, but the run was escalated",
            Status.CANCELLED: "Approved, then the run was cancelled",
        }
        return after.get(run.status, "Approved")
    if approval.status != ApprovalStatus.VOID:
        # a request that is still pending here is past its deadline
        return "Rejected" if approval.status == ApprovalStatus.REJECTED else "Expired"
    reason = void_reason(approval)
    if approval.snoozed_until is not None:
        return sanitize(reason[0].upper() + reason[1:], MAX_TITLE)
    return sanitize(f"Outdated ({reason})" if reason else "Outdated", MAX_TITLE)


def void_reason(approval: Approval) -> str:
    """Return why a request is outdated; empty if no reason is stored."""
    return _VOID_REASONS.get(approval.reason or "", approval.reason or "")


def decision_line(decision: Decision) -> str:
    """Return the decision with its person, time and reason."""
    verb = _DECIDED.get(decision.verb, decision.verb.capitalize())
    text = f"{verb} by {decision.identity} at {format_time(decision.at)}"
    return sanitize(f"{text}: {decision.reason}" if decision.reason else text)


def approvers_text(approval: Approval) -> str:
    """Return who may approve a request."""
    who = f"members of {', '.join(approval.groups)}" if approval.groups else "any approver"
    return sanitize(who if approval.quorum == 1 else f"{approval.quorum} different people: {who}")


def deadline_text(approval: Approval, now: datetime) -> str:
    """Return when a request expires, and what happens to the target before and after that."""
    left = format_age(approval.expires_at - now)
    to = f" to {', '.join(approval.plan.escalate_to)}" if approval.plan.escalate_to else ""
    return sanitize(
        f"Expires at {format_datetime(approval.expires_at)} (in {left}). Until then, {approval.plan.target} is not "
        f"changed. Without a decision, nothing is done and the run is escalated{to}."
    )
