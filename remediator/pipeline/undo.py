"""Undo the steps of a run that declare an undo. Each undo follows the write-ahead protocol (promise 3)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from msgspec import structs

from remediator.core.cost import excess
from remediator.core.outcome import Outcome
from remediator.core.plan import PlannedStep
from remediator.core.types import fitted
from remediator.errors import RemediatorError
from remediator.extensions.actions.base import EffectStatus, Result, UndoCall
from remediator.pipeline import costs
from remediator.pipeline.guard_evaluation import build_input, evaluate
from remediator.pipeline.run_context import RunContext
from remediator.pipeline.step_execution import PROCESS_LOST, Intent, StepExecution, planned_call
from remediator.storage.repositories import stops
from remediator.storage.repositories.attempts import Attempt
from remediator.storage.repositories.timers import UndoRequest


@dataclass(frozen=True, slots=True)
class UndoResult:
    """The result of undoing one step."""

    step: str
    outcome: str
    """``ok``, ``failed``, ``unknown`` or ``not_tried``."""
    summary: str
    stopped: bool = False
    """An active stop prevented it, so that it does not count as a try."""

    def to_data(self) -> Mapping[str, str]:
        """Return the result in its stored and shown form."""
        return {"step": self.step, "outcome": self.outcome, "summary": self.summary}


async def undo_steps(ctx: RunContext) -> list[UndoResult]:
    """Undo the steps that took effect, last first; returns the result of each. No undo is tried twice."""
    tried = await ctx.attempts()
    done = {item.step for item in tried if _succeeded(item)}
    begun = {item.step: item for item in tried if item.is_undo}
    results = []
    for step in reversed([step for step in ctx.plan.steps if step.id in done and step.undo is not None]):
        attempt = begun.get(step.id)
        if attempt is None:
            results.append(await undo(ctx, step, tried))
        else:
            outcome = attempt.outcome or (await settle_lost_undo(ctx, step, attempt, tried)).outcome
            results.append(UndoResult(step.id, outcome, "was tried before"))
    return results


async def undo(
    ctx: RunContext, step: PlannedStep, tried: list[Attempt], request: UndoRequest | None = None
) -> UndoResult:
    """Undo one step, once, planned on the current target.

    Args:
        ctx: a claimed run; from this call on, it holds its target.
        step: a step that declares an undo and took effect.
        tried: the attempts of the run so far.
        request: the request of a person; None if the playbook or the pipeline undoes it.
    """
    # 1. A stop also stops an undo: it is an action (promise 10).
    active = await ctx.pipeline.store.read(lambda connection: stops.list_active(connection, ctx.now()))
    stop = next((stop for stop in active if stop.applies_to(ctx.run.playbook, ctx.run.target)), None)
    if stop is not None:
        return UndoResult(step.id, "not_tried", f"{stop.subject} stopped by {stop.created_by}", stopped=True)
    if ctx.run.target not in ctx.pipeline.playbooks.inventory:
        return UndoResult(step.id, "not_tried", f"the inventory no longer has {ctx.run.target}")
    # 2. Only a declared undo is done; nothing is guessed.
    found = resolve_undo(ctx, step, tried)
    if found is None:
        return UndoResult(step.id, "not_tried", f"action {step.action} does not declare an undo")
    # 2b. If a person requested the undo, the guards that apply to an undo are evaluated too; *unknown* does not allow
    #     it (promise 5).
    if request is not None and (blocked := await _blocked(ctx, step, found)):
        return UndoResult(step.id, "not_tried", blocked)
    # 3. The call is planned now: its pin must be what the step left behind (promise 3).
    action, service = ctx.pipeline.actions[found.action], ctx.service
    try:
        parameters = fitted(action.Parameters, found.parameters, found.action)
        async with asyncio.timeout(ctx.pipeline.timeouts.probe_timeout.total_seconds()):
            call = await action.plan(service, parameters)
    except (TimeoutError, RemediatorError, OSError) as error:
        return UndoResult(step.id, "not_tried", f"the undo cannot be planned: {error or 'no answer in time'}")
    # 4. An undo has no approval request. It is refused if it is destructive or costs more than the step's tolerance.
    #    Exception: a person requested it and typed the name of the target (promise 12).
    cost = await costs.measure(ctx.pipeline, action, service, parameters, call)
    losses = excess(cost, step.tolerance)
    if (action.traits_for(parameters).destructive or losses) and not (request is not None and request.confirmed):
        why = "; ".join(losses) or f"{found.action} may lose data"
        return UndoResult(step.id, "not_tried", f"the undo needs a person who confirms the target's name: {why}")
    # 5. Intent, call, outcome and, if that is unknown, observation (promises 3 and 4).
    execution = StepExecution(ctx, step, found.action, parameters, call, is_undo=True)
    intent = await ctx.write(lambda tx: execution.write_intent(tx, tried))
    result = await execution.start(intent)
    if result.outcome is Outcome.UNKNOWN:
        result = await _observed(execution, intent.attempt, result)
    return await _record(execution, intent, result)


async def _blocked(ctx: RunContext, step: PlannedStep, call: UndoCall) -> str:
    """Return which guard does not allow the undo, and why; empty if all allow it."""
    asked = build_input(ctx, await ctx.alerts(), structs.replace(step, action=call.action))
    decision = (await evaluate(ctx.pipeline, asked, undo=True)).decision
    await ctx.write(lambda tx: tx.add_verdicts(decision.records(asked)))
    return "" if decision.allowed else f"guard {decision.guard} {decision.final.sentence}"


async def settle_lost_undo(ctx: RunContext, step: PlannedStep, attempt: Attempt, tried: list[Attempt]) -> UndoResult:
    """Find out the outcome of an undo whose process ended.

    The undo is observed, and never repeated blindly (promise 3).
    """
    found = resolve_undo(ctx, step, tried)
    execution = StepExecution(ctx, step, attempt.action, None, planned_call(attempt), is_undo=True)
    result = PROCESS_LOST
    if found is not None:
        parameters = ctx.pipeline.actions[found.action].Parameters.model_validate(found.parameters)
        execution = replace(execution, action_name=found.action, parameters=parameters)
        result = await _observed(execution, attempt, PROCESS_LOST)
    return await _record(execution, Intent(attempt, 0.0), result)


def resolve_undo(ctx: RunContext, step: PlannedStep, tried: list[Attempt]) -> UndoCall | None:
    """Return the call that undoes a step: from the playbook, or from the action and its record."""
    if step.undo is not None and step.undo.action:
        return UndoCall(step.undo.action, step.undo.parameters)
    made = next((item for item in reversed(tried) if item.step == step.id and _succeeded(item)), None)
    if made is None:
        return None
    output: Mapping[str, Any] = (made.result or {}).get("output", {})
    return ctx.pipeline.actions[step.action].undo_call(planned_call(made), output)


def _succeeded(attempt: Attempt) -> bool:
    return attempt.mutates and not attempt.is_undo and attempt.outcome == Outcome.OK.value


async def _observed(execution: StepExecution, attempt: Attempt, otherwise: Result) -> Result:
    seen = await execution.observe(attempt)
    if seen.happened is EffectStatus.UNKNOWN:
        return otherwise
    outcome = Outcome.OK if seen.happened is EffectStatus.YES else Outcome.FAILED
    return Result(outcome, f"observed: {seen.summary}")


async def _record(execution: StepExecution, intent: Intent, result: Result) -> UndoResult:
    await execution.record(intent, result, lambda tx: execution.write_result(tx, intent.attempt, result))
    return UndoResult(execution.step.id, result.outcome.value, result.summary)
