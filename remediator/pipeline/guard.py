"""The guard stage: evaluate the guards and the autonomy mode for a plan, and again for a blocked run when it is due."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from remediator.core.cost import excess
from remediator.core.plan import Plan
from remediator.core.run import Reason, Run, Status
from remediator.core.run_detail import (
    AwaitingApprovalDetail,
    BlockedDetail,
    MatchedDetail,
    RunningDetail,
    ShadowDecision,
)
from remediator.extensions.guards.base import GuardAnswer, GuardInput
from remediator.pipeline import condition_scope, held_back
from remediator.pipeline.context import PASSIVE_MODES, StageResult, proceed, wait_until
from remediator.pipeline.due_steps import due_steps
from remediator.pipeline.guard_evaluation import GuardDecision, block, build_input, evaluate, next_evaluation_at
from remediator.pipeline.run_changes import RunChanges
from remediator.pipeline.run_context import RunContext, RunTransaction
from remediator.pipeline.transitions import escalate_diagnosis
from remediator.storage.repositories import blocked_runs


async def guard_plan(ctx: RunContext) -> StageResult:
    """Take a ``planned`` or ``blocked`` run to where the guards and the mode allow it to go."""
    run = ctx.run
    snoozed = run.detail.until if isinstance(run.detail, BlockedDetail) and run.reason is Reason.SNOOZED else None
    if snoozed is not None and ctx.now() < snoozed:
        return wait_until(run, snoozed)
    if run.status is Status.PLANNED and run.mode not in PASSIVE_MODES and not await _has_applicable_step(ctx):
        return proceed(await ctx.write(escalate_diagnosis))  # no approval is requested for skipped steps
    asked = build_input(ctx, await ctx.alerts(), None, await ctx.evidence())
    evaluation = await evaluate(ctx.pipeline, asked)
    decision = evaluation.decision
    if run.status is Status.BLOCKED:
        return await _recheck(ctx, asked, decision)
    # The order matters. 1. A guard that blocks wins over every mode (promise 5). 2. A mode that never acts ends before
    # its first action. 3. Unknown is not a yes (promise 5), and the mode or the playbook may need a person (promise 6).
    # But this applies only if a step that changes something is due. Otherwise, steps that wait or read begin. The stage
    # "act" evaluates the guards again, and asks a person when a step that changes something becomes due.
    due = due_steps(ctx.plan, _target(ctx), await ctx.evidence())
    ends_here = decision.final.answer is GuardAnswer.BLOCK or run.mode in PASSIVE_MODES
    if ends_here or (due and (not decision.allowed or needs_approval(run, ctx.plan))):
        return await ctx.write(lambda tx: _decide(tx, ctx.plan, due, asked, decision))
    ctx.change(lambda changes: _start(changes, asked, decision))
    ctx.stored_verdicts = evaluation.stored
    return proceed(ctx.run)


async def _has_applicable_step(ctx: RunContext) -> bool:
    """Return whether a step may apply, as far as the diagnosis shows. In mode auto, the steps themselves decide."""
    if not ctx.plan.steps or ctx.run.mode == "auto":
        return bool(ctx.plan.steps)
    seen = await ctx.evidence()
    return any(condition_scope.may_apply(step, ctx.plan.parameters, _target(ctx), seen) for step in ctx.plan.steps)


def _target(ctx: RunContext) -> tuple[str, str]:
    """Return name and platform of the target."""
    return ctx.run.target, ctx.service.platform.kind


def _decide(
    tx: RunTransaction, plan: Plan, due: Collection[str], asked: GuardInput, decision: GuardDecision
) -> StageResult:
    """Block the run, end it in a mode that never acts, or ask people. ``due`` are the IDs of the steps that are due."""
    tx.add_verdicts(decision.records(asked))
    answer, mode = decision.final.answer, tx.run.mode
    # The order matters. 1. A guard that blocks wins over every mode (promise 5).
    if answer is GuardAnswer.BLOCK:
        return block(tx, asked, decision, Status.MATCHED)
    # 2. A mode that never acts ends here, also if a guard does not know.
    if mode in PASSIVE_MODES:
        would, text = _would_have(mode, plan, due, decision)
        detail = BlockedDetail(guard="autonomy", text=text, would=would)
        return wait_until(tx.move(Status.BLOCKED, Reason(mode), detail), None)
    # 3. Unknown is not a yes: a person decides, also in mode auto (promise 5).
    if answer is GuardAnswer.UNKNOWN:
        unknown = AwaitingApprovalDetail(**decision.detail_fields())
        after = tx.request_approval(plan, None, Reason.GUARD_UNKNOWN, unknown)
        return wait_until(after, after.wake_at)
    # 4. Everything is allowed; the mode or the playbook needs a person (promise 6).
    after = tx.request_approval(plan, None, Reason.APPROVAL_NEEDED, AwaitingApprovalDetail(mode=mode))
    return wait_until(after, after.wake_at)


def _start(changes: RunChanges, asked: GuardInput, decision: GuardDecision) -> None:
    changes.add_verdicts(decision.records(asked))
    deadline = asked.now + changes.pipeline.timeouts.run_timeout
    changes.move(Status.RUNNING, None, RunningDetail(), deadline_at=deadline)


def needs_approval(run: Run, plan: Plan) -> bool:
    """Return whether the mode, the playbook or the only step needs an approval before anything is done."""
    first = next((step for step in plan.steps if step.mutates), None)
    only_step = first is not None and first.approval and len(plan.steps) == 1
    return run.mode == "approve" or plan.approval_required or only_step


def _would_have(
    mode: str, plan: Plan, due: Collection[str], decision: GuardDecision
) -> tuple[ShadowDecision | None, str]:
    """Return the action of the run in an acting mode, and a sentence about it. None in mode ``observe``."""
    if mode == "observe":
        return None, "mode observe: nothing is done"
    steps = [plan.step(step_id) for step_id in due]
    if not steps:
        return ShadowDecision.NOTHING, "mode shadow: would have changed nothing: no step is due"
    if decision.final.answer is GuardAnswer.UNKNOWN:
        return ShadowDecision.ASK, f"mode shadow: the run would have asked for an approval: {decision.final.text}"
    calls = "; ".join(step.summary for step in steps)
    losses = [loss for step in steps for loss in excess(step.cost, step.tolerance)]
    if losses:
        why = "; ".join(dict.fromkeys(losses))
        return ShadowDecision.ASK, f"mode shadow: the run would have asked for an approval ({why}): {calls}"
    return ShadowDecision.ACT, f"mode shadow: would have done: {calls}"


async def _recheck(ctx: RunContext, asked: GuardInput, decision: GuardDecision) -> StageResult:
    run, final = ctx.run, decision.final
    if run.reason in PASSIVE_MODES:
        return wait_until(run, None)
    if final.answer is GuardAnswer.BLOCK:
        return await _stay_blocked(ctx, asked, decision)

    def unblock(tx: RunTransaction) -> Run:
        tx.add_verdicts(decision.records(asked))
        deadline = run.deadline_at if run.first_action_at else tx.now + tx.pipeline.timeouts.run_timeout
        to = run.resume_to or Status.MATCHED
        detail = RunningDetail(was=run.reason) if to is Status.RUNNING else MatchedDetail(was=run.reason)
        return tx.move(to, Reason.UNBLOCKED, detail, resume_to=None, deadline_at=deadline)

    return proceed(await ctx.write(unblock))


async def _stay_blocked(ctx: RunContext, asked: GuardInput, decision: GuardDecision) -> StageResult:
    """Keep the run blocked: record another reason, and notify people that the run is blocked when that is due."""
    run, pipeline = ctx.run, ctx.pipeline
    by_guard = run.reason is Reason.GUARD_BLOCKED and isinstance(run.detail, BlockedDetail)
    before = run.detail if by_guard and isinstance(run.detail, BlockedDetail) else BlockedDetail(since=asked.now)
    detail = BlockedDetail(**decision.detail_fields(), since=before.since or run.created_at)
    blocked, notice_at = await pipeline.store.read(
        lambda connection: (
            blocked_runs.count(connection),
            held_back.notice_due_at(connection, pipeline, asked, run, detail),
        )
    )
    until = next_evaluation_at(pipeline, decision.final, asked.now, blocked)
    known = (before.guard, before.guard_reason) == (detail.guard, detail.guard_reason)
    # a reason that is recorded already is not recorded again: no audit entry every few seconds
    if not known or (notice_at is not None and notice_at <= asked.now):

        def write(tx: RunTransaction) -> datetime | None:
            if known:
                tx.save()
            else:
                tx.add_verdicts(decision.records(asked))
                tx.set_reason(Reason.GUARD_BLOCKED, detail)
            return held_back.notify_if_due(tx, asked, detail)

        notice_at = await ctx.write(write)
    return wait_until(ctx.run, until if notice_at is None else min(until, notice_at))
