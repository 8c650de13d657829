"""The approve stage: wait for people, and act only on exactly the plan that they approved (promise 6)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from remediator.core.approval import ApprovalStatus
from remediator.core.plan import Plan
from remediator.core.run import Reason, Run, Status
from remediator.core.run_detail import (
    AwaitingApprovalDetail,
    BlockedDetail,
    CancelledDetail,
    EscalatedDetail,
    MatchedDetail,
    RunningDetail,
)
from remediator.errors import ClientError, RemediatorError
from remediator.pipeline.approval_count import missing_approval
from remediator.pipeline.context import PipelineContext, StageResult, proceed, wait_until
from remediator.pipeline.planning import Planner
from remediator.pipeline.run_context import RunContext, RunTransaction
from remediator.playbooks import parameters
from remediator.storage import Tx
from remediator.storage.repositories import approvals, runs
from remediator.storage.repositories.approvals import Approval, Decision


@dataclass(frozen=True, slots=True)
class Change:
    """The difference between the plan of the request and the current plan."""

    why: str
    plan: Plan | None = None
    """The current plan, if it is known."""


async def await_approval(ctx: RunContext) -> StageResult:
    """Take an ``awaiting_approval`` run to where the decision leads: an approval, a rejection, a snooze, an expiry."""
    approval, decisions = await ctx.read(_state)
    assert approval is not None, f"run {ctx.run.id} waits for an approval that was never requested"
    if approval.status == ApprovalStatus.APPROVED:
        return await _approved(ctx, approval, decisions)
    if approval.status == ApprovalStatus.REJECTED:
        who = tuple(item.identity for item in decisions if item.verb == "reject")
        rejected = CancelledDetail(approval=approval.id, by=who, why=approval.reason)
        return proceed(await ctx.write(lambda tx: tx.move(Status.CANCELLED, Reason.REJECTED, rejected)))
    if approval.status == ApprovalStatus.VOID:
        return await ctx.write(lambda tx: _not_decided(tx, approval))
    if approval.status == ApprovalStatus.PENDING and ctx.now() < approval.expires_at:
        return wait_until(ctx.run, approval.expires_at)
    return await ctx.write(lambda tx: _expire(tx, approval))


def _state(connection: Connection, run_id: str) -> tuple[Approval | None, Sequence[Decision]]:
    approval = approvals.get_latest(connection, run_id)
    return approval, approvals.list_decisions(connection, approval.id) if approval else []


def _expire(tx: RunTransaction, approval: Approval) -> StageResult:
    if tx.now < approval.expires_at:
        # the clock of the database decides; it is behind the clock of this host
        return wait_until(tx.run, approval.expires_at)
    approvals.close(tx.tx, approval, ApprovalStatus.EXPIRED)
    detail = EscalatedDetail(approval=approval.id, expired_at=approval.expires_at)
    return proceed(tx.move(Status.ESCALATED, Reason.APPROVAL_EXPIRED, detail))


def _not_decided(tx: RunTransaction, approval: Approval) -> StageResult:
    """Go on after a request became outdated or was snoozed. A snoozed run waits; another run is planned again."""
    why, until = approval.reason or "", approval.snoozed_until
    if until is None:
        return proceed(_start_again(tx, approval, why=why))
    text = f"{why} until {until:%H:%M:%S}Z"
    detail = BlockedDetail(approval=approval.id, why=why, until=until, text=text)
    return wait_until(tx.move(Status.BLOCKED, Reason.SNOOZED, detail, resume_to=Status.MATCHED), until)


def void_outdated_requests(tx: Tx, context: PipelineContext) -> None:
    """Make the requests of changed or inactive playbooks outdated, so that their runs are planned again.

    Call this function only when this replica has loaded its files, never when it reads a run. Two replicas whose files
    differ for a moment would otherwise make each other's requests outdated without end. The request of a run that has
    acted stays until a person answers it, because only a person may let such a run start again.
    """
    for approval in approvals.list_pending(tx.connection):
        run = runs.get(tx.connection, approval.run_id)
        if run is None or run.first_action_at is not None:
            continue
        if (changed := _playbook_change(context, run)) is not None:
            approvals.void(tx, run, changed, context.actor)
            runs.notify(tx, [run.id])


async def _approved(ctx: RunContext, approval: Approval, decisions: Sequence[Decision]) -> StageResult:
    # The plan is made again before anything is done: an approval counts for exactly what people saw (promise 6). A
    # target that cannot be asked counts as changed.
    # Before that, the approvals themselves are counted again: the people must have the right now.
    missing = await ctx.pipeline.store.read(
        lambda connection: missing_approval(connection, ctx.pipeline, ctx.run, approval)
    )
    try:
        changed = Change(missing) if missing else await what_changed(ctx, approval)
    except ClientError as error:
        changed = Change(_cannot_plan(error))
    if changed is not None:
        why = changed.why

        def revoke(tx: RunTransaction) -> Run:
            approvals.revoke(tx.tx, tx.run, approval, why, tx.pipeline.actor)
            return _start_again(tx, approval, changed=why)

        return proceed(await ctx.write(revoke))
    asked = ctx.run.detail
    detail = RunningDetail(
        approval=approval.id,
        by=tuple(item.identity for item in decisions if item.verb == "approve"),
        step=approval.step,
        overrides=ctx.run.reason,
        guard=asked.guard if isinstance(asked, AwaitingApprovalDetail) else "",
    )
    deadline = ctx.pipeline.timeouts.run_timeout
    return proceed(
        await ctx.write(lambda tx: tx.move(Status.RUNNING, Reason.APPROVED, detail, deadline_at=tx.now + deadline))
    )


def _start_again(tx: RunTransaction, approval: Approval, *, why: str = "", changed: str = "") -> Run:
    """Plan the run again by the active version of its playbook; escalate if the playbook was removed."""
    playbooks = tx.pipeline.playbooks
    active = playbooks.active_version(tx.run.playbook)
    if active is None and playbooks.active:
        gone = EscalatedDetail(approval=approval.id, why=why, changed=changed)
        return tx.move(Status.ESCALATED, Reason.APPROVAL_VOID, gone)
    adopt = {} if active is None else {"playbook_hash": active.content_hash}
    detail = MatchedDetail(approval=approval.id, why=why, changed=changed)
    return tx.move(Status.MATCHED, Reason.APPROVAL_VOID, detail, **adopt)


async def what_changed(ctx: RunContext, approval: Approval, *, plans: bool = True) -> Change | None:
    """Plan again and return how the result differs from the request; None if both are equal.

    Changes nothing.

    Args:
        ctx: the run of the request.
        approval: the request.
        plans: False compares the playbook only and asks no target.

    Raises:
        ClientError: the target cannot be asked.
    """
    if (changed := _playbook_change(ctx.pipeline, ctx.run)) is not None:
        return Change(changed)
    if not plans:
        return None
    try:
        alerts = await ctx.alerts()
        labels = dict(alerts[0].labels) if alerts else {}
        values = parameters.resolve(ctx.playbook, labels, ctx.pipeline.playbooks.inventory)
        plan = await Planner(ctx.pipeline, ctx.playbook, ctx.service, values).plan(ctx.run.mode)
    except ClientError:
        raise
    except RemediatorError as error:
        return Change(_cannot_plan(error))
    return None if plan.hash == approval.plan_hash else Change("the target has changed, and the plan with it", plan)


def _cannot_plan(error: RemediatorError) -> str:
    return f"it can no longer be planned: {error}"


def _playbook_change(context: PipelineContext, run: Run) -> str | None:
    """Return how the active playbook differs from the playbook with which the run started; None if both are equal."""
    active = context.playbooks.active_version(run.playbook)
    if not context.playbooks.active or (active is not None and active.content_hash == run.playbook_hash):
        return None
    return "the playbook was removed" if active is None else "the playbook has changed"
