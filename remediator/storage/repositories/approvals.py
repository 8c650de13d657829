"""Approval requests: created with their run's transition, decided by compare-and-set, outdated if the plan changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import Connection, Integer, Row, bindparam, func, insert, select, update

from remediator.audit import Kind
from remediator.core import approval as rules
from remediator.core.approval import ApprovalStatus, same_person
from remediator.core.cost import excess
from remediator.core.ids import Ids
from remediator.core.message import MessageKind
from remediator.core.plan import Plan, PlannedStep
from remediator.core.run import Reason, Run, Status
from remediator.core.run_detail import AwaitingApprovalDetail
from remediator.errors import NotFound
from remediator.storage import Tx
from remediator.storage.column_types import Instant
from remediator.storage.prepared import Prepared
from remediator.storage.repositories import outbox, run_transitions, runs
from remediator.storage.schema import approvals as table
from remediator.storage.schema import decisions
from remediator.storage.schema import runs as runs_table


@dataclass(frozen=True, slots=True)
class Approval:
    """A request to decide about exactly one plan."""

    id: str
    run_id: str
    plan_hash: str
    plan: Plan
    """The plan of the request. The run may already have another plan."""
    step: str | None
    """The step that the request is for; None for the whole plan."""
    steps: Sequence[str]
    """The IDs of the steps that an approval allows: the steps that were due at the time of the request."""
    asked: Reason
    """The reason of the request, as a typed value."""
    why: str
    """The reason of the request, in one sentence."""
    status: ApprovalStatus
    groups: Sequence[str]
    quorum: int
    requested_at: datetime
    expires_at: datetime
    decided_at: datetime | None
    snoozed_until: datetime | None
    reason: str | None

    @property
    def due(self) -> tuple[PlannedStep, ...]:
        """Return the planned steps that an approval allows."""
        return tuple(step for step in self.plan.steps if step.id in self.steps)

    @property
    def destructive(self) -> bool:
        """Return whether a step that an approval allows can lose data."""
        return any(step.destructive for step in self.due)

    @property
    def costly(self) -> bool:
        """Return whether a step that an approval allows costs more than its tolerance."""
        return any(excess(step.cost, step.tolerance) for step in self.due)


@dataclass(frozen=True, slots=True)
class Decision:
    """The decision of one person."""

    identity: str
    verb: str
    at: datetime
    reason: str | None
    how: str
    """How the identity was known: oidc, slack, proxy, link, token or terminal."""
    break_glass: bool = False
    """This decision alone is sufficient."""
    claimed: Sequence[str] = ()
    """The groups that the identity provider or the proxy reported."""


def request(
    tx: Tx,
    ids: Ids,
    run: Run,
    plan: Plan,
    step: str | None,
    reason: Reason,
    detail: AwaitingApprovalDetail,
    actor: str,
    steps: Sequence[str],
) -> Run:
    """Request approval for a run: write the transition, the request and the message in one transaction.

    Args:
        tx: the transaction.
        ids: makes the ID of the request.
        run: the claimed run.
        plan: the plan of the request. It is stored with the request.
        step: the step of the request; None for the whole plan.
        reason: the reason of the request.
        detail: the inputs behind the reason.
        actor: this process, for the audit log.
        steps: IDs of the steps that an approval allows.
    """
    approval_id = ids.new("approval", tx.now)
    expires = tx.now + timedelta(seconds=plan.approval_expires)
    detail = msgspec.structs.replace(detail, approval=approval_id)
    # The transition comes first. A process that lost its claim must get Fenced, not a conflict with the request that
    # the next owner of the run has created.
    after = run_transitions.transition(tx, run, Status.AWAITING_APPROVAL, reason, detail, actor, wake_at=expires)
    values = {
        "id": approval_id,
        "run_id": run.id,
        "plan_hash": plan.hash,
        "plan": tx.redact(plan.to_data()),
        "step": step,
        "steps": list(steps),
        "asked": reason.value,
        "why": tx.redact(rules.request_reason(reason, detail, run.mode)),
        "status": ApprovalStatus.PENDING.value,
        "groups": list(plan.approval_groups),
        "quorum": plan.quorum,
        "requested_at": tx.now,
        "expires_at": expires,
    }
    tx.connection.execute(_INSERT, values)
    calls = [each.call.summary for each in plan.steps if each.id in steps]
    data = {"approval": approval_id, "step": step, "calls": calls, "quorum": plan.quorum, "expires_at": expires}
    tx.append_audit(runs.draft(Kind.APPROVAL_REQUESTED, after, actor, data, reason))
    content = {**detail.to_data(), "reason": reason, "escalate_to": list(plan.escalate_to)}
    outbox.enqueue(tx, ids, MessageKind.APPROVAL, after, content, (outbox.APPROVERS,))
    return after


_INSERT = Prepared(insert(table))


def get_pending(connection: Connection, run_id: str) -> Approval | None:
    """Return the pending request of a run, or None."""
    row = connection.execute(_PENDING_OF_RUN, {"run": run_id}).first()
    return None if row is None else _approval(row)


def get_latest(connection: Connection, run_id: str) -> Approval | None:
    """Return the newest request of a run, decided or not, or None."""
    row = connection.execute(_LATEST_OF_RUN, {"run": run_id}).first()
    return None if row is None else _approval(row)


_OF_RUN = select(table).where(table.c.run_id == bindparam("run"))
_PENDING_OF_RUN = Prepared(_OF_RUN.where(table.c.status == ApprovalStatus.PENDING.value))
_LATEST_OF_RUN = Prepared(_OF_RUN.order_by(table.c.requested_at.desc(), table.c.id.desc()).limit(1))
_ALL_OF_RUN = Prepared(_OF_RUN.order_by(table.c.requested_at, table.c.id))


def get(connection: Connection, approval_id: str, *, lock: bool = False) -> Approval | None:
    """Return a request by its ID; ``lock`` the row while decisions on it are counted."""
    row = connection.execute(_GET_LOCKED if lock else _GET, {"approval": approval_id}).first()
    return None if row is None else _approval(row)


_BY_ID = select(table).where(table.c.id == bindparam("approval"))
_GET, _GET_LOCKED = Prepared(_BY_ID), Prepared(_BY_ID.with_for_update())


def list_decisions(connection: Connection, approval_id: str) -> list[Decision]:
    """Return the decisions on a request, oldest first."""
    return [Decision(*row) for row in connection.execute(_DECISIONS, {"approval": approval_id})]


_DECISIONS = Prepared(
    select(*(decisions.c[name] for name in ("identity", "verb", "at", "reason", "how", "break_glass", "claimed")))
    .where(decisions.c.approval_id == bindparam("approval"))
    .order_by(decisions.c.at, decisions.c.identity)
)


def decide(
    tx: Tx,
    approval: Approval,
    plan_hash: str,
    decision: Decision,
    snooze: timedelta = timedelta(0),
) -> ApprovalStatus:
    """Record the decision of one person. Return the status of the request afterwards.

    The first rejection rejects. A quorum of distinct people approves. A snooze ends this request, and the run creates a
    new one later. A second decision by the same person, or a late decision, changes nothing.

    The order of the checks:

    1. The request is locked, so two last approvals are counted one after the other.
    2. It must be pending, and for the plan that the person saw.
    3. It must not have expired.
    4. The person must be new.

    Args:
        tx: the transaction.
        approval: the request.
        plan_hash: hash of the plan that the person saw.
        decision: what the person decided.
        snooze: until the run creates a new request, if the person snoozes this one.

    Raises:
        NotFound: the request was deleted.
    """
    current = get(tx.connection, approval.id, lock=True)
    if current is None:
        raise NotFound(f"there is no approval request {approval.id!r}")
    if current.status != ApprovalStatus.PENDING or plan_hash != current.plan_hash:
        return current.status  # the request is decided already, or the person saw another plan
    if tx.now >= current.expires_at:
        return ApprovalStatus.EXPIRED
    run = runs.get(tx.connection, approval.run_id)
    assert run is not None
    if any(same_person(item.identity, decision.identity) for item in list_decisions(tx.connection, approval.id)):
        return ApprovalStatus.PENDING  # this person has decided already
    tx.connection.execute(
        insert(decisions).values(
            approval_id=approval.id,
            identity=decision.identity,
            verb=decision.verb,
            at=decision.at,
            reason=tx.redact(decision.reason),
            how=decision.how,
            break_glass=decision.break_glass,
            claimed=sorted(decision.claimed),
        )
    )
    verb, alone = decision.verb, decision.break_glass
    said = {"approval": approval.id, "verb": verb, "how": decision.how, "break_glass": alone, "why": decision.reason}
    tx.append_audit(runs.draft(Kind.APPROVAL_DECIDED, run, decision.identity, said))
    if verb == "snooze":
        until = update(table).where(table.c.id == current.id).values(snoozed_until=tx.now + snooze)
        tx.connection.execute(until)
    closed = {"reject": ApprovalStatus.REJECTED, "snooze": ApprovalStatus.VOID}.get(verb)
    status = closed or _after_approval(tx, current, alone)
    if status != ApprovalStatus.PENDING:
        close(tx, current, status, f"snoozed by {decision.identity}" if verb == "snooze" else decision.reason)
        runs.notify(tx, [approval.run_id])
    return status


def _after_approval(tx: Tx, approval: Approval, alone: bool) -> ApprovalStatus:
    agreed = [item for item in list_decisions(tx.connection, approval.id) if item.verb == "approve"]
    return ApprovalStatus.APPROVED if alone or len(agreed) >= approval.quorum else ApprovalStatus.PENDING


def get_requester(connection: Connection, run_id: str) -> str | None:
    """Return the person who started a run manually and may not approve it; None if it started automatically."""
    requester: str | None = connection.execute(_REQUESTER, {"run": run_id}).scalar()
    return requester


_REQUESTER = Prepared(select(runs_table.c.requested_by).where(runs_table.c.id == bindparam("run")))


def set_requester(tx: Tx, run_id: str, who: str) -> None:
    """Record the person who started a run manually."""
    tx.connection.execute(update(runs_table).where(runs_table.c.id == run_id).values(requested_by=who))


def close(tx: Tx, approval: Approval, status: ApprovalStatus, reason: str | None = None) -> bool:
    """Set the status of a pending request and update its messages. Return False if it was not pending."""
    values = {"its_id": approval.id, "new": status.value, "at": tx.now, "given_reason": tx.redact(reason)}
    changed = tx.connection.execute(_CLOSE, values).rowcount
    if changed:
        outbox.enqueue_update(tx, approval.run_id, status.value)
    return bool(changed)


_CLOSE = Prepared(
    update(table)
    .where(table.c.id == bindparam("its_id"), table.c.status == ApprovalStatus.PENDING.value)
    .values(status=bindparam("new"), decided_at=bindparam("at", type_=Instant), reason=bindparam("given_reason"))
)


def void(tx: Tx, run: Run, why: str, actor: str) -> None:
    """Close the pending request of a run, because it is outdated."""
    approval = get_pending(tx.connection, run.id)
    if approval is not None and close(tx, approval, ApprovalStatus.VOID, why):
        tx.append_audit(runs.draft(Kind.APPROVAL_VOID, run, actor, {"approval": approval.id}, why))


def revoke(tx: Tx, run: Run, approval: Approval, why: str, actor: str) -> None:
    """Make an approved request outdated, because its plan changed and nothing was done yet."""
    changed = tx.connection.execute(
        update(table)
        .where(table.c.id == approval.id, table.c.status == ApprovalStatus.APPROVED.value)
        .values(status=ApprovalStatus.VOID.value, reason=tx.redact(why))
    ).rowcount
    if changed:
        tx.append_audit(runs.draft(Kind.APPROVAL_VOID, run, actor, {"approval": approval.id}, why))
        outbox.enqueue_update(tx, run.id, ApprovalStatus.VOID.value)


def list_pending(connection: Connection, limit: int = 500) -> list[Approval]:
    """Return the pending requests, ordered by their expiry."""
    return [_approval(row) for row in connection.execute(_ALL_PENDING, {"most": limit})]


_ALL_PENDING = Prepared(
    select(table)
    .where(table.c.status == ApprovalStatus.PENDING.value)
    .order_by(table.c.expires_at)
    .limit(bindparam("most", type_=Integer))
)


def count_pending(connection: Connection, now: datetime) -> int:
    """Return the number of requests that wait for a decision now."""
    waiting = (
        select(func.count())
        .select_from(table)
        .where(table.c.status == ApprovalStatus.PENDING.value, table.c.expires_at > now)
    )
    return int(connection.execute(waiting).scalar_one())


def list_decided(connection: Connection, limit: int) -> list[Approval]:
    """Return the requests that do not wait any more, the newest first."""
    statement = (
        select(table)
        .where(table.c.status != ApprovalStatus.PENDING.value)
        .order_by(table.c.requested_at.desc())
        .limit(limit)
    )
    return [_approval(row) for row in connection.execute(statement)]


def list_for_run(connection: Connection, run_id: str) -> list[Approval]:
    """Return the requests of a run, oldest first."""
    return [_approval(row) for row in connection.execute(_ALL_OF_RUN, {"run": run_id})]


def _approval(row: Row[Any]) -> Approval:
    values = {**row._asdict(), "plan": Plan.from_data(row.plan), "asked": Reason(row.asked)}
    values["status"] = ApprovalStatus(row.status)
    return Approval(**values)
