"""Steps that need a separate approval: the reason, the approval, and the request for it (promise 6)."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from remediator.audit import Kind
from remediator.core.approval import ApprovalStatus
from remediator.core.cost import Cost
from remediator.core.plan import PlannedStep
from remediator.core.run import Reason, Run
from remediator.core.run_detail import AwaitingApprovalDetail, RunningDetail
from remediator.errors import RemediatorError
from remediator.pipeline import replaced_store
from remediator.pipeline.context import StageResult, wait_until
from remediator.pipeline.planning import Planner
from remediator.pipeline.run_context import RunContext, RunTransaction
from remediator.storage.repositories import evidence
from remediator.storage.repositories.approvals import Approval

_COMMITS_LOST = "the database lost its last commits after the alert began, and perhaps that this was already done"


async def reason_to_ask(ctx: RunContext, step: PlannedStep) -> tuple[Reason, str] | None:
    """Return why the step needs a separate approval, also in one sentence; None if it needs no approval."""
    # this reason has priority, because the approver must know it
    if await replaced_store.lossy_replacement(ctx, step) is not None:
        return Reason.COMMITS_LOST, _COMMITS_LOST
    why = await _need(ctx, step)
    return None if why is None else (Reason.STEP_NEEDS_APPROVAL, why)


async def _need(ctx: RunContext, step: PlannedStep) -> str | None:
    if step.approval:
        return "this step needs an approval in every mode"
    if ctx.run.mode == "approve" or ctx.plan.approval_required:
        return "this step was not due when the plan was approved"
    if not (step.interrupts or step.causes):
        return None
    if not step.causes:
        return f"{step.action} interrupts the service, and the playbook names no cause for this step"
    causes = evidence.established_causes(await ctx.evidence())
    if not causes:
        return f"this step is for {', '.join(step.causes)}, and the evidence points to no known cause"
    others = [name for name in causes if name not in step.causes]
    if others:
        return f"this step is for {', '.join(step.causes)}, but the evidence also points to {', '.join(others)}"
    return None


async def approvals_of(ctx: RunContext, step: PlannedStep) -> list[Approval]:
    """Return the approvals that allow this step.

    An approval allows the steps that were due when it was given. For a step that needs an approval in every mode, the
    approval must be for the current plan: an earlier approval was for another plan. For other steps, it must be for the
    same step. If the step may have been done already, because the database lost its last commits, the request must have
    stated this.
    """
    given = [item for item in await ctx.approvals() if item.status == ApprovalStatus.APPROVED]
    if (replaced := await replaced_store.lossy_replacement(ctx, step)) is not None:
        given = [
            item
            for item in given
            if item.step == step.id and item.asked is Reason.COMMITS_LOST and item.requested_at > replaced.at
        ]
    return [
        item
        for item in given
        if step.id in item.steps
        and (item.plan_hash == ctx.run.plan_hash or (not step.approval and _same_step(item.plan.step(step.id), step)))
    ]


def _same_step(approved: PlannedStep, step: PlannedStep) -> bool:
    """Return whether two plans have the same step, regardless of the state of the target."""
    return msgspec.structs.replace(approved, call=step.call, cost=step.cost) == step


def is_for_this_call(ctx: RunContext, step: PlannedStep, given: Sequence[Approval]) -> bool:
    """Return whether one of these approvals is for this step alone, with exactly the call of the current plan."""
    return any(item.step == step.id and item.plan_hash == ctx.run.plan_hash for item in given)


async def ask(
    ctx: RunContext, step: PlannedStep, reason: Reason, why: str, *, changed_before: bool, cost: Cost | None = None
) -> StageResult:
    """Request an approval for a step as it would be done now.

    Args:
        ctx: the run.
        step: the step.
        reason: why a person must decide, as a typed value.
        why: the same in one sentence.
        changed_before: an earlier step of this run has changed the target, so that the plan is made again.
        cost: what was measured just now, if that is why a person must decide. The request shows it.
    """
    plan = ctx.plan
    if changed_before:
        try:
            plan = await Planner(ctx.pipeline, ctx.playbook, ctx.service, plan.parameters).plan(ctx.run.mode)
        except (TimeoutError, RemediatorError):
            return wait_until(ctx.run, ctx.now() + ctx.pipeline.timeouts.guard_recheck_interval)
    if cost is not None:
        steps = (msgspec.structs.replace(item, cost=cost) if item.id == step.id else item for item in plan.steps)
        plan = msgspec.structs.replace(plan, steps=tuple(steps))
    call = plan.step(step.id).call

    def request(tx: RunTransaction) -> StageResult:
        tx.save(plan=plan, plan_hash=plan.hash)
        detail = AwaitingApprovalDetail(step=step.id, call=call.text, risk=call.risk, text=why)
        after = tx.request_approval(plan, step.id, reason, detail)
        return wait_until(after, after.wake_at)

    return await ctx.write(request)


def ask_about_condition(tx: RunTransaction, ctx: RunContext, step: PlannedStep, why: str) -> StageResult:
    """Request an approval for a step whose condition is unknown."""
    tx.audit(Kind.ACTION_OUTCOME, {"step": step.id, "skipped": why}, "held")
    detail = AwaitingApprovalDetail(step=step.id, call=step.call.text, text=why)
    after = tx.request_approval(ctx.plan, step.id, Reason.CONDITION_UNKNOWN, detail)
    return wait_until(after, after.wake_at)


def condition_approved(run: Run, step: PlannedStep) -> bool:
    """Return whether a person has approved this step although its condition is unknown."""
    detail = run.detail
    return (
        run.reason is Reason.APPROVED
        and isinstance(detail, RunningDetail)
        and detail.overrides is Reason.CONDITION_UNKNOWN
        and detail.step == step.id
    )
