"""The verb *act*: one step at a time; the intent is durable before the call, and unknown is not failure."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

from remediator.audit import Kind
from remediator.core import failpoints
from remediator.core.outcome import Outcome
from remediator.core.plan import Plan, PlannedCall, PlannedStep, as_data, from_data
from remediator.core.run import Run, Status
from remediator.errors import ClientError, Fenced, Refused, RemediatorError, TargetError, Unreachable
from remediator.extensions.actions.base import (
    Action,
    EffectStatus,
    Observation,
    Result,
)
from remediator.extensions.guards.base import GuardAnswer, GuardInput, Verdict
from remediator.pipeline import condition_scope
from remediator.pipeline.context import PipelineContext, StageResult, proceed, wait_until
from remediator.pipeline.guard_evaluation import (
    GuardDecision,
    block,
    build_input,
    decide_again,
    evaluate,
    intend,
    to_records,
)
from remediator.pipeline.planning import make_plan, resolve
from remediator.pipeline.transitions import follow, to_verifying
from remediator.pipeline.undo import undo_steps
from remediator.playbooks import cel
from remediator.playbooks.inventory import Service
from remediator.storage import Tx
from remediator.storage.repositories import approvals, attempts, episodes, evidence, runs, timers
from remediator.storage.repositories.attempts import Attempt
from remediator.storage.repositories.evidence import EvidenceRecord


class _Held(RemediatorError):
    """Raised inside the intent's transaction when a guard that looks into the store says no."""

    def __init__(self, judgement: GuardDecision) -> None:
        super().__init__(judgement.final.text)
        self.judgement = judgement


def _busy(target: str, other: str) -> GuardDecision:
    text = f"run {other} has its hand on {target}"
    return GuardDecision((("concurrency", Verdict(GuardAnswer.BLOCK, "target_busy", text, {"run": other})),))


async def act(context: PipelineContext, run: Run) -> StageResult:
    """From ``running``: do the step at the cursor, or decide that there is none to do."""
    tried = await context.store.read(lambda connection: attempts.list_for_run(connection, run.id))
    tried = [attempt for attempt in tried if not attempt.is_undo]  # those are seen to by whoever puts back
    lost = next((attempt for attempt in tried if attempt.outcome is None), None)
    if lost is not None:
        return await _unknown(context, run, lost, "the process that began it is gone")
    plan = _plan(run)
    if run.cursor is None:
        return await _exhausted(context, run)
    step = plan.step(run.cursor)
    mine = [attempt for attempt in tried if attempt.step == step.id]
    if mine and mine[-1].outcome == Outcome.OK.value:
        return await _follow(context, run, plan, step, step.on_success)
    if _used_up(step, mine):
        return await _follow(context, run, plan, step, step.on_failure)
    if mine and (due := _backoff(step, mine)) > context.clock.now():
        return wait_until(run, due)
    applies = await _applies(context, run, step, tried)
    if isinstance(applies, cel.Unknown):
        why = f"whether {step.when!r} holds cannot be told: {applies.reason}"
        if step.mutates and not _told_to(run, step):
            return await context.store.write(lambda tx: _ask_whether(tx, context, run, plan, step, why))
        if not step.mutates:
            return await _skip(context, run, plan, step, why)
    elif not applies:
        return await _skip(context, run, plan, step, f"{step.when!r} does not hold")
    return await _attempt(context, run, plan, step, tried)


UNTRIED = 3
"""How many attempts that turned out not to have happened (a process died before the call) are not counted."""


def _used_up(step: PlannedStep, mine: Sequence[Attempt]) -> bool:
    never = sum(1 for attempt in mine if (attempt.result or {}).get("happened") == EffectStatus.NO.value)
    return len(mine) - min(never, UNTRIED) >= step.attempts


def _plan(run: Run) -> Plan:
    assert run.plan is not None, "a run acts only on a plan"
    return from_data(run.plan)


def _backoff(step: PlannedStep, mine: Sequence[Attempt]) -> Any:
    last = mine[-1]
    return (last.outcome_at or last.intent_at) + timedelta(seconds=step.backoff * 2 ** (len(mine) - 1))


def _told_to(run: Run, step: PlannedStep) -> bool:
    """Whether a person has said that this step applies, since its own condition cannot tell."""
    detail = run.detail if run.reason == "approved" else {}
    return detail.get("overrides") == _WHETHER and detail.get("step") == step.id


_WHETHER = "unknown:when"


def _ask_whether(tx: Tx, context: PipelineContext, run: Run, plan: Plan, step: PlannedStep, why: str) -> StageResult:
    """Not knowing is no reason to do something else: the steps below may be for another case. A person decides."""
    detail = {"step": step.id, "call": step.call.text, "text": why}
    tx.append_audit(runs.draft(Kind.ACTION_OUTCOME, run, context.actor, {"step": step.id, "skipped": why}, "held"))
    after = approvals.request(tx, context.ids, run, plan, step.id, _WHETHER, detail, context.actor)
    return wait_until(after, after.wake_at)


async def _applies(
    context: PipelineContext, run: Run, step: PlannedStep, tried: Sequence[Attempt]
) -> bool | cel.Unknown:
    if step.when is None:
        return True
    seen = await context.store.read(lambda connection: evidence.list_for_run(connection, run.id))
    platform = context.playbooks.service(run).platform.kind
    return cel.compile(step.when).evaluate(
        condition_scope.variables(_plan(run).parameters, (run.target, platform), seen, tried)
    )


async def _skip(context: PipelineContext, run: Run, plan: Plan, step: PlannedStep, why: str) -> StageResult:
    following = plan.after(step.id)

    def skip(tx: Tx) -> Run:
        data = {"step": step.id, "skipped": why}
        tx.append_audit(runs.draft(Kind.ACTION_OUTCOME, run, context.actor, data, "skipped"))
        return runs.save(tx, run, cursor=None if following is None else following.id)

    return proceed(await context.store.write(skip))


async def _attempt(
    context: PipelineContext, run: Run, plan: Plan, step: PlannedStep, tried: Sequence[Attempt]
) -> StageResult:
    playbook, service = context.playbooks.of(run), context.playbooks.service(run)
    action = context.actions[step.action]
    if not step.mutates:
        return await _look(context, run, plan, step, action, service)
    begun_before = any(item.mutates for item in tried)
    if step.call.impossible:
        call = await _replan(context, step, service)
        if call is not None and call.impossible:
            return await _not_possible(context, run, plan, step, call.impossible)
        begun_before = True  # what was planned is not what can be done now
    if step.approval and not await _approved_step(context, run, step):
        return await _ask_for_step(context, run, plan, step, begun_before)
    alerts = await context.store.read(lambda connection: episodes.list_for_run(connection, run.id))
    asked = build_input(context, run, playbook, service, alerts, step)
    judgement = await evaluate(context, asked, _overridden(run))
    if judgement.final.answer is not GuardAnswer.ALLOW:
        return await context.store.write(lambda tx: _held(tx, context, run, plan, asked, judgement))
    # our own earlier step has changed the target, so what the plan was pinned to is gone by our own doing
    call = await _replan(context, step, service) if begun_before and not step.approval else step.call
    if call is None:
        return wait_until(run, context.clock.now() + context.pace.recheck)
    if call.impossible:
        return await _not_possible(context, run, plan, step, call.impossible)
    return await _do(context, run, step, call, asked, judgement, action, service, tried)


async def _replan(context: PipelineContext, step: PlannedStep, service: Service) -> PlannedCall | None:
    """The same call on the target as it is now; None if that cannot be seen at the moment."""
    action = context.actions[step.action]
    try:
        return await resolve(context, action, service, action.Parameters.model_validate(step.parameters))
    except (TimeoutError, RemediatorError):
        return None


async def _not_possible(context: PipelineContext, run: Run, plan: Plan, step: PlannedStep, why: str) -> StageResult:
    """A step that cannot even be begun has failed, and needs no intent."""

    def write(tx: Tx) -> Run:
        data = {"step": step.id, "skipped": why}
        tx.append_audit(runs.draft(Kind.ACTION_OUTCOME, run, context.actor, data, "skipped"))
        return runs.save(tx, run)

    return await _follow(context, await context.store.write(write), plan, step, step.on_failure)


def _overridden(run: Run) -> frozenset[str]:
    reason = str(run.detail.get("overrides", "")) if run.reason == "approved" else ""
    return frozenset({reason.removeprefix("unknown:")} if reason.startswith("unknown:") else ())


async def _approved_step(context: PipelineContext, run: Run, step: PlannedStep) -> bool:
    approval = await context.store.read(lambda connection: approvals.get_latest(connection, run.id))
    return (
        approval is not None
        and approval.status == "approved"
        and approval.plan_hash == run.plan_hash
        and approval.step in (None, step.id)
    )


async def _ask_for_step(
    context: PipelineContext, run: Run, plan: Plan, step: PlannedStep, begun_before: bool
) -> StageResult:
    """People are asked for the step as it would be done now: after a step of our own, the plan is made afresh."""
    if begun_before:
        playbook, service = context.playbooks.of(run), context.playbooks.service(run)
        try:
            plan = await make_plan(context, playbook, service, plan.parameters, run.mode)
        except (TimeoutError, RemediatorError):
            return wait_until(run, context.clock.now() + context.pace.recheck)
    return await context.store.write(lambda tx: _ask(tx, context, run, plan, plan.step(step.id)))


def _ask(tx: Tx, context: PipelineContext, run: Run, plan: Plan, step: PlannedStep) -> StageResult:
    run = runs.save(tx, run, plan=as_data(plan), plan_hash=plan.hash)
    detail = {"step": step.id, "call": step.call.text, "risk": step.call.risk}
    after = approvals.request(tx, context.ids, run, plan, step.id, "step_needs_approval", detail, context.actor)
    return wait_until(after, after.wake_at)


def _held(
    tx: Tx, context: PipelineContext, run: Run, plan: Plan, asked: GuardInput, judgement: GuardDecision
) -> StageResult:
    evidence.add_verdicts(tx, run, to_records(asked, judgement), context.actor)
    if judgement.final.answer is GuardAnswer.BLOCK:
        return block(tx, context, run, judgement, Status.RUNNING)
    reason = f"unknown:{judgement.guard}"
    after = approvals.request(tx, context.ids, run, plan, None, reason, judgement.detail(), context.actor)
    return wait_until(after, after.wake_at)


async def _look(
    context: PipelineContext, run: Run, plan: Plan, step: PlannedStep, action: Action, service: Service
) -> StageResult:
    """A step that only reads needs no intent: it may be done again at will."""
    result = await _call(context, step, action, service, step.call)
    status = {"ok": "ok", "failed": "fail"}.get(result.outcome.value, "unknown")
    seen = EvidenceRecord("step", step.id, status, result.summary, result.output, context.clock.now())
    arrow = step.on_success if result.outcome is Outcome.OK else step.on_failure

    def write(tx: Tx) -> Run:
        evidence.add(tx, run, [seen], context.actor)
        return runs.save(tx, run)

    return await _follow(context, await context.store.write(write), plan, step, arrow)


async def _do(
    context: PipelineContext,
    run: Run,
    step: PlannedStep,
    call: PlannedCall,
    asked: GuardInput,
    judgement: GuardDecision,
    action: Action,
    service: Service,
    tried: Sequence[Attempt],
) -> StageResult:
    number = 1 + max((item.number for item in tried if item.step == step.id), default=0)

    def write_intent(tx: Tx) -> tuple[Run, Attempt, float]:
        if (other := runs.lock_holder(tx.connection, run.target, run.id)) is not None:
            raise _Held(_busy(run.target, other))  # whether or not the guard that says so is on
        again = decide_again(context, tx.connection, replace(asked, now=tx.now), _overridden(run))
        if again.final.answer is not GuardAnswer.ALLOW:
            raise _Held(again)
        attempt = _intent(context, run, step, call, number, tx)
        evidence.add_verdicts(tx, run, to_records(asked, judgement), context.actor)
        lease = timedelta(seconds=step.timeout) + context.pace.margin
        held = runs.save(
            tx,
            run,
            lease_until=max(tx.now + lease, run.lease_until or tx.now),
            holds_target=True,
            first_action_at=run.first_action_at or tx.now,
        )
        attempts.record_intent(tx, held, attempt, context.actor)
        return held, attempt, tx.began_at

    try:
        run, attempt, begun = await intend(context, write_intent)
    except _Held as held:
        judgement = held.judgement
        return await context.store.write(lambda tx: _held(tx, context, run, _plan(run), asked, judgement))
    if context.lapsing(begun):
        result = Result(Outcome.FAILED, _NOT_BEGUN)
    else:
        context.on_event("action", run, {"step": step.id, "call": call.text})
        failpoints.reach("before", lambda: ("call",))
        result = await _call(context, step, action, service, call)
        failpoints.reach("after", lambda: ("call",))
    return await _concluded(context, run, step, attempt, result)


_NOT_BEGUN = "not begun: too long passed between intent and call, the lease may not last"


async def _concluded(
    context: PipelineContext, run: Run, step: PlannedStep, attempt: Attempt, result: Result
) -> StageResult:
    try:
        return await context.store.write(lambda tx: _conclude(tx, context, run, step, attempt, result))
    except Fenced:
        # another process decides what becomes of the run; what this one saw is worth knowing all the same
        said = {"attempt": attempt.id, "step": step.id, "outcome": result.outcome.value, "summary": result.summary}
        late = runs.draft(Kind.RUN_FENCED, run, context.actor, said, "late_outcome")
        await context.store.write(lambda tx: tx.append_audit(late))
        raise


def _intent(context: PipelineContext, run: Run, step: PlannedStep, call: PlannedCall, number: int, tx: Tx) -> Attempt:
    return Attempt(
        id=context.ids.new("attempt", tx.now),
        run_id=run.id,
        step=step.id,
        number=number,
        action=step.action,
        playbook=run.playbook,
        target=run.target,
        mutates=True,
        is_undo=False,
        call={"text": call.text, "arguments": dict(call.arguments), "pin": dict(call.pin)},
        fence=run.fence,
        intent_at=tx.now,
        outcome=None,
        outcome_at=None,
        result=None,
    )


async def _call(
    context: PipelineContext, step: PlannedStep, action: Action, service: Service, call: PlannedCall
) -> Result:
    """One bounded call; every way in which it can end is one of three outcomes."""
    parameters = action.Parameters.model_validate(step.parameters)
    try:
        async with asyncio.timeout(step.timeout):
            return await action.execute(service, parameters, call)
    except (Unreachable, TargetError, Refused) as error:
        return Result(Outcome.FAILED, str(error), {"error": type(error).__name__})
    except TimeoutError:
        return Result(Outcome.UNKNOWN, f"no answer within {step.timeout:g} s", {"error": "TimedOut"})
    except (ClientError, OSError, ValueError) as error:
        return Result(Outcome.UNKNOWN, str(error), {"error": type(error).__name__})


def _conclude(
    tx: Tx, context: PipelineContext, run: Run, step: PlannedStep, attempt: Attempt, result: Result
) -> StageResult:
    """The outcome, fenced: a process that lost its claim meanwhile finds that out here and does no more."""
    after = runs.save(tx, run)
    if result.outcome is Outcome.UNKNOWN:
        return proceed(_to_unknown(tx, context, after, attempt, result.summary))
    written: dict[str, Any] = {"summary": result.summary, "output": dict(result.output)}
    if result.summary is _NOT_BEGUN:
        written["happened"] = EffectStatus.NO.value
    attempts.record_outcome(tx, after, attempt, result.outcome.value, written, context.actor)
    if result.outcome is Outcome.OK:
        _temporary(tx, context, after, step)
    if result.outcome is Outcome.OK and step.on_success == "verify":
        return proceed(to_verifying(tx, context, after, step.id))
    return proceed(after)


def _temporary(tx: Tx, context: PipelineContext, run: Run, step: PlannedStep) -> None:
    """What is to last for a while only gets its timer in the same transaction as its outcome."""
    after = None if step.undo is None else step.undo.get("after")
    if after is not None:
        timers.schedule_undo(tx, context.ids, run, step.id, timedelta(seconds=after))


def _to_unknown(tx: Tx, context: PipelineContext, run: Run, attempt: Attempt, why: str) -> Run:
    detail = {"attempt": attempt.id, "step": attempt.step, "why": why}
    return runs.transition(tx, run, Status.UNKNOWN_OUTCOME, "outcome_unknown", detail, context.actor)


async def _unknown(context: PipelineContext, run: Run, attempt: Attempt, why: str) -> StageResult:
    return proceed(await context.store.write(lambda tx: _to_unknown(tx, context, run, attempt, why)))


async def _follow(context: PipelineContext, run: Run, plan: Plan, step: PlannedStep, arrow: str) -> StageResult:
    """Go where the step's arrow points; a run that is aborted leaves nothing behind that it can put back."""
    if arrow == "abort":
        await undo_steps(context, run, plan)
    return await context.store.write(lambda tx: follow(tx, context, run, plan, step, arrow))


async def _exhausted(context: PipelineContext, run: Run) -> StageResult:
    def give_up(tx: Tx) -> Run:
        return runs.transition(tx, run, Status.ESCALATED, "no_step_left", {}, context.actor)

    return proceed(await context.store.write(give_up))


async def observe(context: PipelineContext, run: Run) -> StageResult:
    """From ``unknown_outcome``: look at the target; go on if that tells, put it to a person if it does not."""
    attempt = await context.store.read(lambda connection: attempts.get_in_flight(connection, run.id))
    plan = _plan(run)
    if attempt is None:
        return await _exhausted(context, run)
    step = plan.step(attempt.step)
    seen = await _observation(context, run, step, attempt)
    return await context.store.write(lambda tx: _observed(tx, context, run, step, attempt, seen))


async def _observation(context: PipelineContext, run: Run, step: PlannedStep, attempt: Attempt) -> Observation:
    action, service = context.actions[step.action], context.playbooks.service(run)
    call = PlannedCall(str(attempt.call["text"]), attempt.call["arguments"], attempt.call["pin"])
    parameters = action.Parameters.model_validate(step.parameters)
    try:
        async with asyncio.timeout(context.pace.probe.total_seconds()):
            return await action.observe(service, parameters, call, attempt.intent_at)
    except (TimeoutError, RemediatorError, OSError) as error:
        return Observation(EffectStatus.CANNOT_TELL, f"the target cannot be observed: {error or 'no answer in time'}")


def _observed(
    tx: Tx, context: PipelineContext, run: Run, step: PlannedStep, attempt: Attempt, seen: Observation
) -> StageResult:
    facts = {"happened": seen.happened.value, "summary": seen.summary, "facts": dict(seen.facts)}
    tx.append_audit(runs.draft(Kind.ACTION_OBSERVED, run, context.actor, {"attempt": attempt.id, **facts}))
    if seen.happened is EffectStatus.CANNOT_TELL and not step.idempotent:
        attempts.record_outcome(tx, run, attempt, Outcome.UNKNOWN.value, facts, context.actor)
        detail = {"step": step.id, "attempt": attempt.id, "observed": seen.summary}
        # the target stays held: the call may still land, and only a person can rule that out
        return proceed(runs.transition(tx, run, Status.ESCALATED, "outcome_unknown", detail, context.actor))
    outcome = Outcome.OK if seen.happened is EffectStatus.YES else Outcome.FAILED
    attempts.record_outcome(tx, run, attempt, outcome.value, facts, context.actor)
    if outcome is Outcome.OK:
        _temporary(tx, context, run, step)
    if outcome is Outcome.OK and step.on_success == "verify":
        return proceed(to_verifying(tx, context, run, step.id))
    detail = {"attempt": attempt.id, "happened": seen.happened.value}
    return proceed(runs.transition(tx, run, Status.RUNNING, "observed", detail, context.actor))
