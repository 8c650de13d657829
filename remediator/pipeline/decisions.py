"""Decisions of people, each in one transaction: approvals, cancel, retry, comments and modes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from remediator.audit import Draft, Kind
from remediator.core import approval as rules
from remediator.core.approval import (
    ApprovalRequirements,
    ApprovalStatus,
    DenialReason,
    Permission,
    PermissionDenied,
    Person,
)
from remediator.core.ids import Ids
from remediator.core.message import MessageKind
from remediator.core.notification_policy import Approvals
from remediator.core.run import Episode, EpisodeStatus, Run
from remediator.errors import Conflict, InputError, NotFound
from remediator.pipeline.context import PlaybookSet
from remediator.storage import Tx
from remediator.storage.repositories import (
    approvals,
    autonomy,
    breakers,
    comments,
    episodes,
    incidents,
    outbox,
    remedy_memory,
    runs,
    sessions,
    target_locks,
)
from remediator.storage.repositories.approvals import Approval
from remediator.storage.repositories.comments import Comment, CommentKind
from remediator.storage.repositories.remedy_memory import MemoryEntry

VERBS = ("approve", "reject", "snooze")
MAX_COMMENT = 2000
"""Characters of a comment."""


@dataclass(frozen=True, slots=True)
class DecisionRequest:
    """The decision of a person about one approval request."""

    approval: str
    plan_hash: str
    """Hash of the plan that the person saw."""
    verb: str
    person: Person
    reason: str = ""
    confirmation: str = ""
    """The name of the target, if the person had to type it."""
    break_glass: bool = False


@dataclass(frozen=True, slots=True)
class DecisionResult:
    """The status of the request afterwards, and whether the decision counted."""

    status: ApprovalStatus
    counted: bool


def requirements_of(connection: Connection, approval: Approval, run: Run) -> ApprovalRequirements:
    """Return the requirements of a request for its approvers."""
    requester = approvals.get_requester(connection, run.id)
    low_risk = rules.is_low_risk(
        approval.asked, approval.quorum, destructive=approval.destructive, costly=approval.costly
    )
    return ApprovalRequirements(approval.groups, low_risk, approval.destructive, requester)


def decide(tx: Tx, request: DecisionRequest, policy: Approvals) -> DecisionResult:
    """Count a decision if this person may make it.

    Raises:
        PermissionDenied: the person may not, or did not confirm; nothing was changed.
        NotFound: there is no such request.
        InputError: there is no such verb.
    """
    if request.verb not in VERBS:
        raise InputError(f"unknown decision {request.verb!r}: expected one of {', '.join(VERBS)}")
    found = approvals.get(tx.connection, request.approval, lock=True)
    run = None if found is None else runs.get(tx.connection, found.run_id)
    if found is None or run is None:
        raise NotFound(f"there is no approval request {request.approval[:64]!r}")
    if found.status != ApprovalStatus.PENDING:
        return DecisionResult(found.status, counted=False)
    _check_allowed(request, requirements_of(tx.connection, found, run), policy, run, tx.now)
    before = len(approvals.list_decisions(tx.connection, found.id))
    person = request.person
    decision = approvals.Decision(
        person.id,
        request.verb,
        tx.now,
        request.reason or None,
        person.how,
        break_glass=request.break_glass,
        claimed=tuple(person.claimed),
    )
    status = approvals.decide(tx, found, request.plan_hash, decision, policy.snooze_duration)
    if request.break_glass:  # it has an entry of its own, and approvers and the channels of the run are notified
        who, why = person.id, request.reason.strip()
        data = {"command": "break glass", "approval": request.approval, "verb": request.verb, "how": person.how}
        tx.append_audit(Draft(kind=Kind.OPERATOR_COMMAND, actor=who, run=run.id, reason=why, data=data))
        text = f"emergency override by {who}: {request.verb} for {run.playbook} on {run.target}: {request.reason}"
        channels = tuple(dict.fromkeys((outbox.APPROVERS, *run.escalate_to)))
        outbox.enqueue(tx, Ids(), MessageKind.NOTICE, run, {"about": "break glass", "text": text}, channels)
    return DecisionResult(status, len(approvals.list_decisions(tx.connection, found.id)) > before)


def _check_allowed(
    request: DecisionRequest, required: ApprovalRequirements, policy: Approvals, run: Run, now: datetime
) -> None:
    """Check that a decision may be recorded.

    Raises:
        PermissionDenied: the person may not decide this, or did not confirm it.
    """
    # 1. Everyone who approves a plan that can destroy data must type the name of its target, with break-glass too
    #    (promise 6).
    confirmed = not required.destructive or rules.names_target(request.confirmation, run.target)
    if request.verb == "approve" and not confirmed:
        raise PermissionDenied(
            DenialReason.CONFIRMATION, f"this plan can destroy data: type the target {run.target!r} to confirm"
        )
    # 2. Role, group, requester and risk (promise 6).
    if not request.break_glass:
        rules.check_may_decide(request.person, request.verb, required, link_holders=policy.allow_link_only)
        return
    # 3. Break-glass replaces the second check by a higher role, a recent proof of the identity and a reason, and
    #    everyone is notified.
    request.person.require(Permission.BREAK_GLASS)
    rules.require_recent_proof(request.person, now)
    if len(request.reason.strip()) < 5:
        raise PermissionDenied(
            DenialReason.REASON, "break-glass needs a reason of at least 5 characters, such as 'shop is down'"
        )


def refresh(tx: Tx, person: Person, approval_id: str, why: str, policy: Approvals) -> bool:
    """Close an outdated request: the run is planned again, and people are asked again. Decides nothing.

    Returns:
        False if the request is not pending.

    Raises:
        PermissionDenied: this person could not snooze the request either.
    """
    found = approvals.get(tx.connection, approval_id, lock=True)
    run = None if found is None else runs.get(tx.connection, found.run_id)
    if found is None or run is None or found.status != ApprovalStatus.PENDING:
        return False
    required = requirements_of(tx.connection, found, run)
    rules.check_may_decide(person, "snooze", required, link_holders=policy.allow_link_only)
    approvals.void(tx, run, why, person.id)
    runs.notify(tx, [run.id])
    return True


def end_sessions(tx: Tx, person: Person, who: str, reason: str) -> int:
    """End all sessions of a person; returns how many were ended. All users may end their own sessions.

    Raises:
        PermissionDenied: the role is not sufficient.
    """
    if not rules.same_person(person.id, who):
        person.require(Permission.END_SESSIONS)
    return sessions.end_all(tx, [who], person.id, tx.redact(reason.strip()) or "ended by command")


def cancel(tx: Tx, person: Person, run_id: str, reason: str) -> str:
    """Cancel a run in any status: at once while it waits, after the current step while it acts.

    A finished run that still holds its target releases the target: the person states that the last call is over.

    Returns:
        the effect, as one sentence.

    Raises:
        PermissionDenied: the role is not sufficient.
        InputError: there is no such run.
    """
    person.require(Permission.CANCEL)
    run = runs.get(tx.connection, run_id)
    if run is None:
        raise NotFound(f"there is no run {run_id[:64]!r}")
    said = tx.redact(reason.strip())
    _record(tx, person, run, "cancel", said)
    if runs.request_cancel(tx, run_id, person.id, said):
        return f"{run_id} is being cancelled"
    if run.holds_target:
        target_locks.release_target(tx, run_id, person.id, said)
        return f"{run_id} is finished; its target {run.target} is released"
    return f"{run_id} is finished already: {run.status.value}"


def can_retry(run: Run, alerts: Sequence[Episode]) -> bool:
    """Return whether :func:`retry` accepts a run with these alerts, if its playbook is still loaded."""
    fires = any(alert.status is EpisodeStatus.FIRING for alert in alerts)
    return fires and run.finished_at is not None and run.incident_open and not run.holds_target


def retry(tx: Tx, person: Person, run_id: str, loaded: PlaybookSet, reason: str) -> Run:
    """Create another run for the same incident, planned from the start. The person who asks may not approve it.

    Args:
        tx: the transaction.
        person: who asks for it.
        run_id: the finished run.
        loaded: has the version and the mode of the playbook with which the new run begins.
        reason: why; recorded in the audit log.

    Raises:
        PermissionDenied: the role is not sufficient.
        NotFound: there is no such run.
        Conflict: its playbook is not loaded, it has not finished, no alert of it fires any more, or it may still have
            an effect.
    """
    person.require(Permission.RETRY)
    run = runs.get(tx.connection, run_id)
    if run is None:
        raise NotFound(f"there is no run {run_id[:64]!r}")
    playbook = loaded.active_version(run.playbook)
    if playbook is None:
        raise Conflict(f"cannot retry {run_id[:64]!r}: playbook {run.playbook!r} is not loaded any more")
    if run.finished_at is None:
        raise Conflict(f"there is no finished run {run_id[:64]!r}; only a finished run can be retried")
    alerts = episodes.list_for_run(tx.connection, run_id)
    if all(alert.status is not EpisodeStatus.FIRING for alert in alerts):
        raise Conflict(f"run {run_id} cannot be retried: no alert of the run fires any more")
    if run.holds_target:
        raise Conflict(
            f"run {run_id} cannot be retried: the outcome of its last call is unknown; check {run.target}, cancel the "
            "run to release the target, then retry"
        )
    if not run.incident_open:
        raise Conflict(f"run {run_id} cannot be retried: its incident has a newer run")
    _record(tx, person, run, "retry", tx.redact(reason.strip()))
    runs.close_incident(tx, [run_id])
    new_id = Ids().new("run", tx.now)
    mode = autonomy.effective_mode(tx.connection, playbook.name, playbook.mode_in(loaded.environment))
    created = runs.create(tx, new_id, run.playbook, playbook.content_hash, run.target, mode, person.id, run.incident_id)
    runs.add_episodes(tx, created.id, alerts)
    approvals.set_requester(tx, created.id, person.id)
    return created


def comment(tx: Tx, person: Person, run_id: str, text: str, kind: CommentKind = CommentKind.COMMENT) -> Comment:
    """Write a comment about a run, or acknowledge it: the person takes care of the run. Other people see this.

    Args:
        tx: the transaction.
        person: who writes it.
        run_id: ID of the run, or of an incident, whose newest run is meant.
        text: the comment; optional for an acknowledgement.
        kind: what is written.

    Raises:
        PermissionDenied: the role is not sufficient.
        InputError: there is no such run or incident, or the comment has no text.
    """
    person.require(Permission.COMMENT)
    run = runs.get(tx.connection, run_id)
    if run is None:
        run = next(reversed(incidents.list_runs(tx.connection, run_id)), None)
    if run is None:
        raise NotFound(f"there is no run or incident {run_id[:64]!r}")
    said = tx.redact(" ".join(text.split()))[:MAX_COMMENT]
    if kind is CommentKind.COMMENT and not said:
        raise InputError("a comment needs a text, for example 'looking into it'")
    made = Comment(Ids().new("comment", tx.now), run.id, kind, person.id, tx.now, said)
    comments.add(tx, made)
    acknowledged = kind is CommentKind.ACKNOWLEDGEMENT
    entry = Kind.RUN_ACKNOWLEDGED if acknowledged else Kind.RUN_COMMENTED
    tx.append_audit(runs.draft(entry, run, person.id, {"comment": made.id, "text": said, "how": person.how}))
    if acknowledged:
        outbox.enqueue_incident_update(tx, run, f"acknowledged by {person.id}")
    return made


def set_mode(tx: Tx, person: Person, playbook: str, mode: str, written: str, reason: str) -> str:
    """Change the mode of a playbook, and reset its circuit breaker if the mode is raised; returns the mode before.

    Args:
        tx: the transaction.
        person: who changes it.
        playbook: its name.
        mode: the new mode.
        written: the mode in the playbook's file for this environment.
        reason: why; recorded in the audit log.

    Raises:
        PermissionDenied: the role is not sufficient.
        InputError: there is no such mode, or no reason.
    """
    person.require(Permission.SET_MODE)
    if mode not in autonomy.MODES:
        raise InputError(f"unknown mode {mode[:64]!r}: expected one of {', '.join(autonomy.MODES)}")
    if not reason.strip():
        raise InputError("a change of mode needs a reason, such as '30 of 30 approved, none failed'")
    old = autonomy.effective_mode(tx.connection, playbook, written)
    autonomy.set_mode(tx, playbook, mode, written, person.id, reason)
    if autonomy.lower_mode(old, mode) == old and breakers.list_tripped(tx.connection).get(playbook):
        breakers.reset(tx, playbook, person.id, reason)
    return old


def clear_memory(tx: Tx, person: Person, entry_id: str, reason: str) -> MemoryEntry:
    """Clear the memory of a release or a remedy.

    Raises:
        PermissionDenied: the role is not sufficient.
        InputError: there is no such entry, it is cleared already, or there is no reason.
    """
    person.require(Permission.CLEAR_MEMORY)
    if not reason.strip():
        raise InputError("the reason is empty; give a reason, for example --reason 'the cause was the network'")
    return remedy_memory.clear(tx, entry_id, person.id, reason)


def _record(tx: Tx, person: Person, run: Run, command: str, reason: str) -> None:
    data = {"command": command, "how": person.how, "status": run.status.value}
    tx.append_audit(Draft(kind=Kind.OPERATOR_COMMAND, actor=person.id, run=run.id, reason=reason or None, data=data))
