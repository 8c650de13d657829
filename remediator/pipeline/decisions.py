"""A person's word on a request: whether it counts, put on record, in one transaction. For pages, API, chat and CLI."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import timedelta

from sqlalchemy import Connection

from remediator.audit import Draft, Kind
from remediator.core import approval as words
from remediator.core.approval import ApprovalRequirements, DenialReason, Permission, PermissionDenied, Person
from remediator.core.ids import Ids
from remediator.core.run import EpisodeStatus, Run
from remediator.errors import InputError
from remediator.playbooks.diagnostics import did_you_mean
from remediator.storage import Tx
from remediator.storage.repositories import approvals, episodes, outbox, runs, stops
from remediator.storage.repositories.approvals import Approval

VERBS = ("approve", "reject", "snooze")
LONGEST_STOP = timedelta(days=366)
_DOUBLE_CLICK = timedelta(seconds=10)


@dataclass(frozen=True, slots=True)
class DecisionRequest:
    """What somebody says of one request."""

    approval: str
    plan_hash: str
    """Of the plan that this person saw."""
    verb: str
    person: Person
    reason: str = ""
    typed: str = ""
    """The target's name, where it had to be typed."""
    break_glass: bool = False


@dataclass(frozen=True, slots=True)
class DecisionPolicy:
    """What the settings say."""

    link_holders: bool = False
    snooze: timedelta = timedelta(minutes=30)


@dataclass(frozen=True, slots=True)
class DecisionResult:
    """What became of the request: ``status`` is the request's, afterwards."""

    status: str
    counted: bool


def asked_of(connection: Connection, approval: Approval, run: Run) -> ApprovalRequirements:
    """What a request demands."""
    assert run.plan is not None, "an approval is for a plan"
    plan = run.plan
    requester = approvals.get_requester(connection, run.id)
    return ApprovalRequirements(approval.groups, words.low_risk(plan, run.reason), words.destructive(plan), requester)


def decide(tx: Tx, word: DecisionRequest, rules: DecisionPolicy) -> DecisionResult:
    """Count a word, if this person may say it.

    Raises:
        NotAllowed: the person may not, or did not confirm; nothing was changed.
        InputError: there is no such request, or no such verb.
    """
    if word.verb not in VERBS:
        raise InputError(f"there is no {word.verb!r}; there are: {', '.join(VERBS)}")
    found = approvals.get(tx.connection, word.approval, lock=True)
    run = None if found is None else runs.get(tx.connection, found.run_id)
    if found is None or run is None:
        raise InputError(f"there is no request {word.approval[:64]}")
    if found.status != "pending":
        return DecisionResult(found.status, counted=False)
    asked = asked_of(tx.connection, found, run)
    word = _allowed(word, asked, rules, run)
    before = len(approvals.list_decisions(tx.connection, found.id))
    status = approvals.decide(
        tx,
        found,
        word.plan_hash,
        word.person.id,
        word.person.how,
        word.verb,
        word.reason or None,
        alone=word.break_glass,
        snooze=rules.snooze,
    )
    if word.break_glass:
        _say_it_loud(tx, word, run)
    return DecisionResult(status, len(approvals.list_decisions(tx.connection, found.id)) > before)


def _allowed(word: DecisionRequest, asked: ApprovalRequirements, rules: DecisionPolicy, run: Run) -> DecisionRequest:
    if word.verb == "approve" and not _confirmed(word, asked, run):
        raise PermissionDenied(
            DenialReason.CONFIRMATION, f"type the name of what this is about to confirm: {run.target}"
        )
    if not word.break_glass:
        words.check_may_decide(word.person, word.verb, asked, link_holders=rules.link_holders)
        return word
    word.person.need(Permission.BREAK_GLASS)
    if len(word.reason.strip()) < 5:
        raise PermissionDenied(DenialReason.REASON, "breaking the glass needs a reason that others will understand")
    return replace(word, person=replace(word.person, how="break_glass"))


def _confirmed(word: DecisionRequest, asked: ApprovalRequirements, run: Run) -> bool:
    return not asked.destructive or words.fits(word.typed, run.target)


def _say_it_loud(tx: Tx, word: DecisionRequest, run: Run) -> None:
    text = f"{word.person.id} broke the glass: {word.verb} for {run.playbook} on {run.target}: {word.reason}"
    data = {"command": "break glass", "approval": word.approval, "verb": word.verb}
    tx.append_audit(
        Draft(kind=Kind.OPERATOR_COMMAND, actor=word.person.id, run=run.id, reason=word.reason.strip(), data=data)
    )
    told = {"about": "break glass", "text": text}
    escalate_to = run.escalate_to
    outbox.enqueue(tx, Ids(), "notice", run, told, tuple(dict.fromkeys((outbox.APPROVERS, *escalate_to))))


def renew(tx: Tx, person: Person, approval_id: str, why: str, rules: DecisionPolicy) -> bool:
    """End a request whose plan is not what would be done now: the run is planned afresh and people are asked anew.
    It decides nothing. False if it does not wait any more.

    Raises:
        NotAllowed: this person could not say "not now" to it either.
    """
    found = approvals.get(tx.connection, approval_id, lock=True)
    run = None if found is None else runs.get(tx.connection, found.run_id)
    if found is None or run is None or found.status != "pending":
        return False
    words.check_may_decide(person, "snooze", asked_of(tx.connection, found, run), link_holders=rules.link_holders)
    approvals.void(tx, run, why, person.id)
    runs.notify(tx, [run.id])
    return True


def require_known(scope: str, name: str, playbooks: Collection[str], services: Collection[str]) -> None:
    """See that a stop would stop something: a name with a slip in it would stop nothing, and nobody would notice.

    Raises:
        InputError: there is no playbook, or no service, of this name; it says which is near.
    """
    there = {"playbook": playbooks, "service": services}.get(scope)
    if there is None or name in there:
        return
    hint = did_you_mean(name, there)
    raise InputError(
        f"there is no {scope} {name[:64]!r}{f'; {hint}' if hint else ''} (what is not loaded yet does nothing: stop it "
        f"once it is, or stop everything meanwhile)"
    )


def pause(
    tx: Tx,
    person: Person,
    reason: str,
    scope: str = "global",
    name: str = "",
    lasts: timedelta | None = None,
    press: str = "",
) -> str:
    """Press the stop button; returns the stop's id. A double click presses it once.

    Args:
        scope: everything, a playbook or a service; ``name`` says which.
        lasts: it is over by itself after so long; without it, somebody has to release it.
        press: id of this very press where the door knows one, so that a repeat of it is none.

    Raises:
        NotAllowed: the role is not enough.
        InputError: no reason, no such scope, a name too few or too many, or it would be over at once.
    """
    person.need(Permission.PAUSE)
    if not reason.strip():
        raise InputError("a stop needs a reason; everybody who meets it reads it")
    if scope not in stops.SCOPES:
        raise InputError(f"there is no scope {scope!r}; there are: {', '.join(stops.SCOPES)}")
    if (scope == "global") != (name == ""):
        raise InputError("name the playbook or the service that is to be stopped; everything has no name")
    if lasts is not None and not timedelta(0) < lasts <= LONGEST_STOP:
        raise InputError("a stop lasts for longer than nothing and at most a year, or until somebody releases it")
    again = _pressed(tx, person, scope, name, tx.redact(reason.strip()), press)
    if again is not None:
        return again
    stop_id = press or Ids().new("stop", tx.now)
    until = None if lasts is None else tx.now + lasts
    stops.create(tx, stop_id, scope, name, reason.strip(), person.id, until)
    return stop_id


def _pressed(tx: Tx, person: Person, scope: str, name: str, reason: str, press: str) -> str | None:
    """The stop that this person has just set with the same words, if it stands: the same press, come twice."""
    if press and stops.get(tx.connection, press) is not None:
        return press
    for stop in stops.list_active(tx.connection, tx.now):
        same = (stop.scope, stop.name, stop.created_by, stop.reason) == (scope, name, person.id, reason)
        if same and stop.expires_at is None and tx.now - stop.created_at < _DOUBLE_CLICK:
            return stop.id
    return None


def resume(tx: Tx, person: Person, stop_id: str) -> bool:
    """Release a stop; False if it does not stand.

    Raises:
        NotAllowed: the role is not enough.
    """
    person.need(Permission.RESUME)
    return stops.release(tx, stop_id, person.id)


def cancel(tx: Tx, person: Person, run_id: str, reason: str) -> str:
    """Stop a run in whatever state it is: at once while it waits, after the step that is under way while it acts.

    A run that is over and still has its hand on its target lets go of it: the person says that nothing acts there any
    more. Returns what was done, as a sentence.

    Raises:
        NotAllowed: the role is not enough.
        InputError: there is no such run.
    """
    person.need(Permission.CANCEL)
    run = runs.get(tx.connection, run_id)
    if run is None:
        raise InputError(f"there is no run {run_id[:64]}")
    said = tx.redact(reason.strip())
    _record(tx, person, run, "cancel", said)
    if runs.request_cancel(tx, run_id, person.id, said):
        return f"{run_id} is being cancelled"
    if run.holds_target:
        runs.release_target(tx, run_id, person.id, said)
        return f"{run_id} was over; its target {run.target} is released"
    return f"{run_id} was over already: {run.status.value}"


def retry(tx: Tx, person: Person, run_id: str, playbook_hash: str, mode: str, reason: str) -> Run:
    """Another run for the same incident, planned afresh; whoever asks for it may not approve it.

    Args:
        playbook_hash: version in force of the run's playbook.
        mode: on which rung it stands now.

    Raises:
        NotAllowed: the role is not enough.
        InputError: there is no such run, it is not over, or nothing fires any more.
    """
    person.need(Permission.RETRY)
    run = runs.get(tx.connection, run_id)
    if run is None or run.finished_at is None:
        raise InputError(f"{run_id[:64]} is not a run that is over")
    alerts = episodes.list_for_run(tx.connection, run_id)
    if all(alert.status is not EpisodeStatus.FIRING for alert in alerts):
        raise InputError("nothing that this run was for fires any more")
    if run.holds_target:
        raise InputError(f"what {run_id} did last is unknown; look at {run.target}, then cancel the run, then retry")
    if not run.incident_open:
        raise InputError(f"the incident of {run_id} has a newer run")
    _record(tx, person, run, "retry", tx.redact(reason.strip()))
    runs.close_incident(tx, [run_id])
    made = runs.create(tx, Ids().new("run", tx.now), run.playbook, playbook_hash, run.target, mode, person.id)
    runs.add_episodes(tx, made.id, alerts)
    approvals.set_requester(tx, made.id, person.id)
    return made


def _record(tx: Tx, person: Person, run: Run, command: str, reason: str) -> None:
    data = {"command": command, "how": person.how, "status": run.status.value}
    tx.append_audit(Draft(kind=Kind.OPERATOR_COMMAND, actor=person.id, run=run.id, reason=reason or None, data=data))
