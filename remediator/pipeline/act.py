"""The act stage: one step at a time. The intent is durable before the call, and *unknown* is not *failed*."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from remediator.audit import Kind
from remediator.core.outcome import Outcome
from remediator.core.plan import PlannedCall, PlannedStep
from remediator.core.run import Reason, Run, Status
from remediator.core.run_detail import AwaitingApprovalDetail, CancelledDetail, EscalatedDetail, RunningDetail
from remediator.errors import RemediatorError
from remediator.extensions.actions.base import EffectStatus, Observation, Result
from remediator.extensions.checks.base import CheckAnswer
from remediator.extensions.guards.base import GuardAnswer, GuardInput, Verdict
from remediator.pipeline import check_runner, condition_scope, costs, replaced_store, step_approval
from remediator.pipeline.approval_count import IntentRefused, require_authority
from remediator.pipeline.context import StageResult, proceed, wait_until
from remediator.pipeline.guard_evaluation import Evaluation, GuardDecision, block, build_input, evaluate
from remediator.pipeline.planning import diagnose_again, resolve
from remediator.pipeline.recorded import planned_problem
from remediator.pipeline.run_context import IntentTransaction, RunContext, RunTransaction
from remediator.pipeline.step_execution import PROCESS_LOST, Intent, StepExecution, planned_call
from remediator.pipeline.transitions import escalate_diagnosis, follow, to_unknown, to_verifying
from remediator.pipeline.undo import undo_steps
from remediator.pipeline.verify import STABLE
from remediator.playbooks import cel
from remediator.storage.repositories import attempts, evidence, target_locks
from remediator.storage.repositories.attempts import Attempt
from remediator.storage.repositories.evidence import EvidenceRecord

MAX_UNCOUNTED_ATTEMPTS = 3
"""Attempts that turned out not to have happened (the process ended before the call) are not counted, up to this."""


_BEFORE_IS_FRESH = timedelta(minutes=1)
"""Maximum age of the checks before the first change; younger checks are not repeated when the run is evaluated again.
"""


async def act(ctx: RunContext) -> StageResult:
    """Take a ``running`` run one step further: do the step at the cursor, skip it, or end the run.

    The order of the checks is the safety argument: each check may rely on the earlier checks. The checks here choose
    the next action and change nothing; :func:`_do` continues with the checks that allow it.
    """
    tried = [attempt for attempt in await ctx.attempts() if not attempt.is_undo]  # undo.py settles the undo attempts
    # 1. An attempt without an outcome comes first: its process ended between intent and outcome, and the call may have
    #    taken effect. Nothing else is decided before the target was observed (promise 3).
    lost = next((attempt for attempt in tried if attempt.outcome is None), None)
    if lost is not None:
        return await ctx.write(lambda tx: proceed(to_unknown(tx, lost, PROCESS_LOST.summary)))
    # 2. Without a step left the run is escalated: a run never ends silently (promise 7). If no step applied, people get
    #    the diagnosis, which is then all that there is.
    if ctx.run.cursor is None:
        if not any(item.mutates for item in tried):
            return await ctx.write(lambda tx: proceed(escalate_diagnosis(tx)))
        return await ctx.write(_escalate_no_step_left)
    step = ctx.plan.step(ctx.run.cursor)
    mine = [attempt for attempt in tried if attempt.step == step.id]
    # 3. A step that succeeded is never done again, also if the process ended before the cursor moved (promises 2, 3).
    if mine and mine[-1].outcome == Outcome.OK.value:
        return await _follow(ctx, step, step.on_success)
    # 4. The number of attempts is limited (promise 12).
    never = sum(1 for attempt in mine if (attempt.result or {}).get("happened") == EffectStatus.NO.value)
    if len(mine) - min(never, MAX_UNCOUNTED_ATTEMPTS) >= step.attempts:
        if step.mutates:
            await diagnose_again(ctx)
        return await _follow(ctx, step, step.on_failure)
    # 5. Attempts keep their distance (promise 12).
    if mine and (due := _backoff_until(step, mine)) > ctx.now():
        return wait_until(ctx.run, due)
    # 6. The row of the run is as the audit log says, before more is decided by it (promise 9). Check 17 repeats
    #    this in the transaction of the intent.
    # 7, 8. The step applies to what the evidence shows.
    instead = await _check_recorded(ctx, step) or await _check_applies(ctx, step, tried)
    if instead is not None:
        return instead
    return await (_change(ctx, step, tried) if step.mutates else _read(ctx, step))


async def _check_recorded(ctx: RunContext, step: PlannedStep) -> StageResult | None:
    """Escalate a run that differs from the audit log. None: both are equal. Continues the checks of :func:`act`."""
    if not step.mutates or ctx.planned_here:
        return None
    problem = await ctx.pipeline.store.read(lambda connection: planned_problem(connection, ctx.stored, ctx.plan))
    return None if problem is None else proceed(await ctx.write(lambda tx: tx.escalate_unrecorded(problem)))


async def _check_applies(ctx: RunContext, step: PlannedStep, tried: Sequence[Attempt]) -> StageResult | None:
    """Skip a step that does not apply, or ask a person. None: the step applies. Continues the checks of :func:`act`."""
    # 7. The condition. If it is unknown, a step that changes something needs a person. The steps after it may be for
    #    another case, so skipping it is no safe default either (promise 5). A step that only reads is skipped.
    applies = await _applies(ctx, step, tried)
    if isinstance(applies, cel.Unknown):
        why = f"the condition {step.when!r} is unknown: {applies.reason}"
        if step.mutates and not step_approval.condition_approved(ctx.run, step):
            return await ctx.write(lambda tx: step_approval.ask_about_condition(tx, ctx, step, why))
        if not step.mutates:
            return await ctx.write(lambda tx: _skip(tx, ctx, step, why))
    elif not applies:
        return await ctx.write(lambda tx: _skip(tx, ctx, step, f"the condition {step.when!r} does not hold"))
    # 8. A step that is for certain causes is skipped when only other causes are established (promise 12).
    if step.mutates and step.causes:
        causes = evidence.established_causes(await ctx.evidence())
        if causes and not set(causes) & set(step.causes):
            why = f"it is for {', '.join(step.causes)}, but the cause is {', '.join(causes)}"
            return await ctx.write(lambda tx: _skip(tx, ctx, step, why))
    return None


def _escalate_no_step_left(tx: RunTransaction) -> StageResult:
    return proceed(tx.move(Status.ESCALATED, Reason.NO_STEP_LEFT, EscalatedDetail()))


def _backoff_until(step: PlannedStep, mine: Sequence[Attempt]) -> datetime:
    last = mine[-1]
    return (last.outcome_at or last.intent_at) + timedelta(seconds=step.backoff * 2 ** (len(mine) - 1))


async def _applies(ctx: RunContext, step: PlannedStep, tried: Sequence[Attempt]) -> bool | cel.Unknown:
    if step.when is None:
        return True
    seen = await ctx.evidence()
    target, condition = (ctx.run.target, ctx.service.platform.kind), cel.compile(step.when)
    reads_cost = any(reference.root == "cost" for reference in condition.references)
    cost = await costs.measure_step(ctx, step, step.call) if reads_cost else None
    return condition.evaluate(condition_scope.variables(ctx.plan.parameters, target, seen, tried, cost))


def _overridden_guards(run: Run) -> frozenset[str]:
    """Return the guard whose *unknown* a person has approved."""
    detail = run.detail
    if run.reason is not Reason.APPROVED or not isinstance(detail, RunningDetail):
        return frozenset()
    return frozenset({detail.guard} if detail.overrides is Reason.GUARD_UNKNOWN else ())


def _skip(tx: RunTransaction, ctx: RunContext, step: PlannedStep, why: str) -> StageResult:
    following = ctx.plan.after(step.id)
    tx.audit(Kind.ACTION_OUTCOME, {"step": step.id, "skipped": why}, "skipped")
    return proceed(tx.save(cursor=None if following is None else following.id))


async def _follow(ctx: RunContext, step: PlannedStep, arrow: str) -> StageResult:
    """Continue with the successor of a step. An aborted run first undoes its steps."""
    if arrow == "abort":
        await undo_steps(ctx)
    return await ctx.write(lambda tx: follow(tx, ctx.plan, step, arrow))


async def _read(ctx: RunContext, step: PlannedStep) -> StageResult:
    """Do a step that only reads. It needs no intent and no guard, because repeating it changes nothing.

    A step that waits is called again until its deadline. During this time, the run does not keep a worker busy, and
    each change is evidence.
    """
    result = await StepExecution.of_step(ctx, step, step.call).invoke()
    earlier = [item for item in await ctx.evidence() if (item.phase, item.name) == ("step", step.id)]
    status = {"ok": "ok", "failed": "fail"}.get(result.outcome.value, "unknown")
    seen = EvidenceRecord("step", step.id, status, result.summary, result.output, ctx.now())

    def write(tx: RunTransaction) -> None:
        if not earlier or earlier[-1].summary != seen.summary:
            tx.add_evidence([seen])
        tx.save()

    await ctx.write(write)
    if result.poll is not None:
        begun = earlier[0].at if earlier else seen.at
        if seen.at - begun < result.poll.within:
            return wait_until(ctx.run, seen.at + result.poll.after)
    if result.outcome is not Outcome.OK and earlier:
        await diagnose_again(ctx)  # observations from before the wait are outdated
    return await _follow(ctx, step, step.on_success if result.outcome is Outcome.OK else step.on_failure)


async def _change(ctx: RunContext, step: PlannedStep, tried: list[Attempt]) -> StageResult:
    """Observe the target first if an intent may be missing, else do the step. Continues the checks of :func:`act`."""
    # The database took the place of another one after this run began, by a failover or from a backup. The intent of
    # this step may be missing although the call was made (promise 3).
    reconciling = await replaced_store.reconcile(ctx, step, tried)
    return reconciling or await _do(ctx, step, tried)


async def _do(ctx: RunContext, step: PlannedStep, tried: list[Attempt]) -> StageResult:
    """Do a step that changes something, if it is allowed now. Continues the checks of :func:`act`."""
    changed_before = any(item.mutates for item in tried)
    # 9. A step that was infeasible when the plan was made is planned again. It may be feasible now. If it is not, it
    #    must not be started (promise 3).
    if step.call.infeasible_reason:
        call = await _plan_again(ctx, step)
        if call is not None and call.infeasible_reason:
            return await _fail_infeasible(ctx, step, call.infeasible_reason)
        changed_before = True  # the planned call is not possible now
    # 10. Nothing is done to a target that already passes the verification: such a proof could not show that the remedy
    #    worked (promises 7, 12).
    if not any(item.mutates for item in tried):
        before = await _observe_before(ctx)
        if before and all(item.status == CheckAnswer.OK.value for item in before):
            return await ctx.write(lambda tx: _not_needed(tx, before))
    # 11. A step that needs an approval in every mode has one for exactly this plan (promise 6). A step that interrupts
    #     the service or names causes runs without an approval only if a cause is established and the step names every
    #     established cause (promise 12). A step that was not due when the plan was approved also needs an approval, and
    #     so does a step that may have been done already because the database lost commits (promise 3).
    needed, approved = await step_approval.reason_to_ask(ctx, step), await step_approval.approvals_of(ctx, step)
    if needed is not None and not approved:
        return await step_approval.ask(ctx, step, *needed, changed_before=changed_before)
    exact = step.approval or step_approval.is_for_this_call(ctx, step, approved)
    # 12. All guards again, right before the action, from the store and from the live systems (promises 5, 10 and 12).
    #     Only a guard whose unknown a person has approved is passed over.
    #     What the store says is not read here if it allowed the plan a moment ago; check 16 reads it in any case.
    asked = build_input(ctx, await ctx.alerts(), step, await ctx.evidence())
    evaluation = await evaluate(ctx.pipeline, asked, _overridden_guards(ctx.run), stored=ctx.stored_verdicts)
    if not evaluation.decision.allowed:
        return await ctx.write(lambda tx: _hold(tx, ctx, asked, evaluation.decision))
    # 13. The call. Its pin proves that the target is as planned; the action itself refuses otherwise (promise 3). An
    # earlier step of this run has changed the target, so the call is planned again. The exception is a call that a
    # person approved in exactly this form (promise 6).
    planned = await _plan_again(ctx, step) if changed_before and not exact else step.call
    if planned is None:
        return wait_until(ctx.run, ctx.now() + ctx.pipeline.timeouts.guard_recheck_interval)
    if planned.infeasible_reason:
        return await _fail_infeasible(ctx, step, planned.infeasible_reason)
    # 14. The cost is measured again as late as possible. A loss above the tolerance needs a person in every mode, also
    #     if a smaller one was approved (promise 6).
    cost = await costs.measure_step(ctx, step, planned)
    if (loss := costs.reason_to_ask(step, cost, approved=bool(approved))) is not None:
        reason = Reason.STEP_NEEDS_APPROVAL
        return await step_approval.ask(ctx, step, reason, loss, changed_before=changed_before, cost=cost)
    measured = [costs.record(ctx, step, cost)] if cost.text else []
    return await _call(StepExecution.of_step(ctx, step, planned), evaluation, tried, measured)


async def _call(
    execution: StepExecution, evaluation: Evaluation, tried: list[Attempt], measured: Sequence[EvidenceRecord]
) -> StageResult:
    """Write the intent, make the call and record its outcome. Continues the checks of :func:`_do`."""
    ctx = execution.ctx
    try:
        intent = await ctx.write_intent(lambda tx: _commit_intent(tx, execution, evaluation, tried, measured))
    except IntentRefused as refused:
        return await ctx.write(refused.then)
    # 20. The call, only while enough of the lease is left (promise 4), and its outcome, fenced (promises 3 and 4).
    result = await execution.start(intent)
    return await execution.record(intent, result, lambda tx: _conclude(tx, execution, intent.attempt, result))


def _commit_intent(
    tx: IntentTransaction,
    execution: StepExecution,
    evaluation: Evaluation,
    tried: list[Attempt],
    measured: Sequence[EvidenceRecord],
) -> Intent:
    """Write the intent, unless something that the store knows forbids it. Continues the checks of :func:`_call`."""
    ctx, asked = execution.ctx, evaluation.asked
    # 15. No other run holds the target, whether or not the concurrency guard is on (promise 4).
    if (other := target_locks.lock_holder(tx.connection, tx.run.target, tx.run.id)) is not None:
        text = f"run {other} holds the target lock of {tx.run.target}"
        busy = Verdict(GuardAnswer.BLOCK, "target_busy", text, {"run": other})
        raise _held(ctx, asked, GuardDecision((("concurrency", busy),)))
    # 16. The data that guards read from the store is read again under the intent lock, unless nothing was committed
    #     since. So a stop created since check 12 counts (promise 10), and two replicas cannot exceed a limit together
    #     (promise 12).
    decision = evaluation.decide_again(tx.tx)
    if not decision.allowed:
        raise _held(ctx, asked, decision)
    #     The service is as it was when this turn began: a reload or a discovery may have changed or removed it since
    #     (promise 8).
    if tx.pipeline.playbooks.inventory.services.get(tx.run.target) != ctx.service:
        raise IntentRefused("the inventory changed; the run is evaluated again", lambda again: proceed(again.save()))
    # 17. The run is what the audit log says. The people who approved still may, and their decisions are in the audit
    #     log (promises 6 and 9).
    require_authority(tx, ctx.plan, execution.step.id, is_new=ctx.is_new)
    # 18. The verdicts, the cost and the intent are durable, in one transaction, before the call (promises 3 and 9).
    tx.add_evidence(measured)
    tx.add_verdicts(decision.records(asked))
    intent = execution.write_intent(tx, tried)
    # 19. Nothing was cancelled, resolved or decided about the run since its stages read it (promise 10).
    if tx.run.wakeup_count != ctx.events_seen:
        raise IntentRefused("an event arrived for the run; it is evaluated again", lambda again: proceed(again.save()))
    return intent


def _held(ctx: RunContext, asked: GuardInput, decision: GuardDecision) -> IntentRefused:
    return IntentRefused(decision.final.text, lambda tx: _hold(tx, ctx, asked, decision))


async def _plan_again(ctx: RunContext, step: PlannedStep) -> PlannedCall | None:
    """Return the call of a step on the current target; None if the target cannot be reached now."""
    action = ctx.pipeline.actions[step.action]
    try:
        return await resolve(ctx.pipeline, action, ctx.service, action.Parameters.model_validate(step.parameters))
    except (TimeoutError, RemediatorError):
        return None


async def _fail_infeasible(ctx: RunContext, step: PlannedStep, why: str) -> StageResult:
    """Treat a step that cannot be started as failed. It needs no intent."""

    def write(tx: RunTransaction) -> None:
        tx.audit(Kind.ACTION_OUTCOME, {"step": step.id, "skipped": why}, "skipped")
        tx.save()

    await ctx.write(write)
    return await _follow(ctx, step, step.on_failure)


async def _observe_before(ctx: RunContext) -> list[EvidenceRecord]:
    """Return the verification checks before the first change; from the store if they were observed already."""
    stored = [item for item in await ctx.evidence() if item.phase == "before"]
    if stored and ctx.now() - stored[-1].at < _BEFORE_IS_FRESH:
        return stored[-len(ctx.plan.checks) - (stored[-1].name == STABLE) :]
    seen = []
    for check in ctx.plan.checks:
        found = await check_runner.observe(ctx.pipeline, check.check, ctx.service, check.parameters)
        seen.append(EvidenceRecord("before", check.check, found.answer.value, found.summary, found.facts, ctx.now()))
    if seen and all(item.status == CheckAnswer.OK.value for item in seen):
        seen += await _too_young(ctx)
    ctx.change(lambda changes: changes.add_evidence(seen))
    return seen


async def _too_young(ctx: RunContext) -> list[EvidenceRecord]:
    """Return the evidence that the target crashed and has run for less time than its proof takes."""
    try:
        async with asyncio.timeout(ctx.pipeline.timeouts.probe_timeout.total_seconds()):
            status = await ctx.pipeline.service_status(ctx.service)
    except (RemediatorError, OSError, TimeoutError):
        return []
    age = None if status.started_at is None else (ctx.now() - status.started_at).total_seconds()
    if not status.crashes or age is None or age >= ctx.plan.stable:
        return []
    text = f"{ctx.service.name} crashed and started {age:.0f} s ago; the proof takes {ctx.plan.stable:g} s without that"
    return [EvidenceRecord("before", STABLE, CheckAnswer.FAIL.value, text, {"age": round(age, 1)}, ctx.now())]


def _not_needed(tx: RunTransaction, before: Sequence[EvidenceRecord]) -> StageResult:
    text = f"nothing was done: {'; '.join(item.summary for item in before)}"
    return proceed(tx.move(Status.CANCELLED, Reason.NOT_NEEDED, CancelledDetail(text=text)))


def _hold(tx: RunTransaction, ctx: RunContext, asked: GuardInput, decision: GuardDecision) -> StageResult:
    """Hold the run: blocked by a guard, or waiting for a person because a guard does not know."""
    tx.add_verdicts(decision.records(asked))
    if decision.final.answer is GuardAnswer.BLOCK:
        return block(tx, asked, decision, Status.RUNNING)
    detail = AwaitingApprovalDetail(**decision.detail_fields())
    after = tx.request_approval(ctx.plan, None, Reason.GUARD_UNKNOWN, detail)
    return wait_until(after, after.wake_at)


def _conclude(tx: RunTransaction, execution: StepExecution, attempt: Attempt, result: Result) -> StageResult:
    if result.outcome is Outcome.UNKNOWN:
        return proceed(to_unknown(tx, attempt, result.summary))  # the attempt stays open until it was observed
    execution.write_result(tx, attempt, result)
    if result.outcome is Outcome.OK and execution.step.on_success == "verify":
        return proceed(to_verifying(tx, execution.step.id))
    return proceed(tx.run)


async def observe(ctx: RunContext) -> StageResult:
    """Continue an ``unknown_outcome`` run: observe the target, and escalate if the outcome stays unknown.

    An unreachable target is observed again for some time: most broken connections recover.
    """
    attempt = await ctx.read(attempts.get_in_flight)
    if attempt is None:
        return await ctx.write(_escalate_no_step_left)
    execution = StepExecution.of_step(ctx, ctx.plan.step(attempt.step), planned_call(attempt))
    seen = await execution.observe(attempt)
    if seen.unreachable and not execution.step.idempotent:
        timeouts, again = ctx.pipeline.timeouts, ctx.now() + ctx.pipeline.timeouts.guard_recheck_interval
        if again <= attempt.intent_at + timedelta(seconds=execution.step.timeout) + timeouts.observe_within:
            return await ctx.write(lambda tx: _observe_again(tx, attempt, seen, again))
    return await ctx.write(lambda tx: _observed(tx, execution, attempt, seen))


def _observe_again(tx: RunTransaction, attempt: Attempt, seen: Observation, again: datetime) -> StageResult:
    _audit_observation(tx, attempt, seen)
    return wait_until(tx.save(), again)


def _audit_observation(tx: RunTransaction, attempt: Attempt, seen: Observation) -> dict[str, Any]:
    facts = {"happened": seen.happened.value, "summary": seen.summary, "facts": dict(seen.facts)}
    tx.audit(Kind.ACTION_OBSERVED, {"attempt": attempt.id, **facts})
    return facts


def _observed(tx: RunTransaction, execution: StepExecution, attempt: Attempt, seen: Observation) -> StageResult:
    step, facts = execution.step, _audit_observation(tx, attempt, seen)
    # Only an idempotent action may be repeated without knowing whether it happened (promise 3).
    if seen.happened is EffectStatus.UNKNOWN and not step.idempotent:
        execution.write_outcome(tx, attempt, Outcome.UNKNOWN, facts)
        detail = EscalatedDetail(step=step.id, attempt=attempt.id, observed=seen.summary)
        # The target stays locked: the call may still take effect, and only a person can rule that out (promise 4).
        return proceed(tx.move(Status.ESCALATED, Reason.OUTCOME_UNKNOWN, detail))
    outcome = Outcome.OK if seen.happened is EffectStatus.YES else Outcome.FAILED
    execution.write_outcome(tx, attempt, outcome, facts)
    if outcome is Outcome.OK and step.on_success == "verify":
        return proceed(to_verifying(tx, step.id))
    observed = RunningDetail(attempt=attempt.id, happened=seen.happened.value)
    return proceed(tx.move(Status.RUNNING, Reason.OBSERVED, observed))
