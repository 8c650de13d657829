"""Putting back what a run has done, where its playbook says how: each by a write-ahead intent like any other action."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection

from remediator.audit import Kind
from remediator.core.outcome import Outcome
from remediator.core.plan import Plan, PlannedCall, PlannedStep
from remediator.core.run import Run
from remediator.core.types import fitted
from remediator.errors import ClientError, Refused, RemediatorError, TargetError, Unreachable
from remediator.extensions.actions.base import (
    Action,
    EffectStatus,
    Result,
    UndoCall,
)
from remediator.pipeline.context import PipelineContext
from remediator.playbooks.inventory import Service
from remediator.storage import Tx
from remediator.storage.repositories import attempts, runs, stops, timers
from remediator.storage.repositories.attempts import Attempt

HELD = "held"
"""In what is told of an undo: the stop button kept it from being tried, so it was no try."""


async def undo_steps(context: PipelineContext, run: Run, plan: Plan) -> list[dict[str, Any]]:
    """Undo the steps that took effect, last first; says of each what became of it. Never tried twice."""
    tried = await context.store.read(lambda connection: attempts.list_for_run(connection, run.id))
    done = [item.step for item in tried if _took_effect(item)]
    begun = {item.step: item for item in tried if item.is_undo}
    told = []
    for step in reversed([step for step in plan.steps if step.id in done and step.undo is not None]):
        if step.id in begun:
            outcome = begun[step.id].outcome or await _found_out(context, run, step, begun[step.id], tried)
            told.append({"step": step.id, "outcome": outcome, "summary": "was tried before"})
        else:
            told.append(await undo(context, run, step, tried))
    return told


async def _found_out(
    context: PipelineContext, run: Run, step: PlannedStep, attempt: Attempt, tried: Sequence[Attempt]
) -> str:
    """What became of an undo whose process died."""
    unclear = Result(Outcome.UNKNOWN, "the process that began it is gone")
    back = resolve_undo(context, step, tried)
    result = unclear if back is None else await settle(context, run, step, attempt, back, unclear)
    await context.store.write(lambda tx: conclude(tx, context, run, attempt, result))
    return result.outcome.value


def _took_effect(attempt: Attempt) -> bool:
    return attempt.mutates and not attempt.is_undo and attempt.outcome == Outcome.OK.value


async def undo(context: PipelineContext, run: Run, step: PlannedStep, tried: Sequence[Attempt]) -> dict[str, Any]:
    """Put one step back, once: planned on the target as it is now, with its intent durable before the call.

    Args:
        engine: the engine.
        run: claimed; its target is held from here on.
        step: one that declares an undo and took effect.
        tried: the run's attempts so far.
    """
    assert step.undo is not None
    stopped = await context.store.read(lambda connection: _stopped(connection, context, run))
    if stopped is not None:
        return {**_not_tried(step, f"{stopped.subject} stopped by {stopped.created_by}"), HELD: True}
    back = resolve_undo(context, step, tried)
    if back is None:
        return _not_tried(step, f"{step.action} says no way back")
    action, service = context.actions[back.action], context.playbooks.service(run)
    try:
        parameters = fitted(action.Parameters, back.parameters, back.action)
        async with asyncio.timeout(context.pace.probe.total_seconds()):
            call = await action.plan(service, parameters)
    except (TimeoutError, RemediatorError, OSError) as error:
        return _not_tried(step, f"it cannot be planned: {error or 'no answer'}")
    number = 1 + sum(1 for item in tried if item.is_undo and item.step == step.id)
    attempt, begun = await context.store.write(
        lambda tx: (_intend(tx, context, run, step, back, call, number), tx.began_at)
    )
    if context.lapsing(begun):
        result = Result(Outcome.FAILED, "not begun: too long passed between intent and call, the lease may not last")
    else:
        result = await _call(context, step, action, service, parameters, call)
    if result.outcome is Outcome.UNKNOWN:
        result = await settle(context, run, step, attempt, back, result)
    await context.store.write(lambda tx: conclude(tx, context, run, attempt, result))
    return {"step": step.id, "outcome": result.outcome.value, "summary": result.summary}


def _not_tried(step: PlannedStep, why: str) -> dict[str, Any]:
    return {"step": step.id, "outcome": "not_tried", "summary": why}


def resolve_undo(context: PipelineContext, step: PlannedStep, tried: Sequence[Attempt]) -> UndoCall | None:
    """The call that puts a step back: the playbook's, or the action's own from what it recorded."""
    assert step.undo is not None
    if step.undo.get("action"):
        return UndoCall(str(step.undo["action"]), step.undo["with"])
    made = next((item for item in reversed(tried) if item.step == step.id and _took_effect(item)), None)
    if made is None:
        return None
    call = PlannedCall(made.call["text"], made.call["arguments"], made.call["pin"])
    return context.actions[step.action].back(call, (made.result or {}).get("output", {}))


async def _call(
    context: PipelineContext, step: PlannedStep, action: Action, service: Service, parameters: Any, call: PlannedCall
) -> Result:
    try:
        async with asyncio.timeout(step.timeout):
            return await action.execute(service, parameters, call)
    except (Unreachable, TargetError, Refused) as error:
        return Result(Outcome.FAILED, str(error))
    except (TimeoutError, ClientError, OSError, ValueError) as error:
        return Result(Outcome.UNKNOWN, str(error) or f"no answer within {step.timeout:g} s")


async def settle(
    context: PipelineContext, run: Run, step: PlannedStep, attempt: Attempt, back: UndoCall, otherwise: Result
) -> Result:
    """What a look at the target says of an undo whose outcome is not known; ``otherwise`` if it cannot tell."""
    action, service = context.actions[back.action], context.playbooks.service(run)
    parameters = action.Parameters.model_validate(back.parameters)
    call = PlannedCall(attempt.call["text"], attempt.call["arguments"], attempt.call["pin"])
    try:
        async with asyncio.timeout(context.pace.probe.total_seconds()):
            seen = await action.observe(service, parameters, call, attempt.intent_at)
    except (TimeoutError, RemediatorError, OSError):
        return otherwise
    if seen.happened is EffectStatus.CANNOT_TELL:
        return otherwise
    outcome = Outcome.OK if seen.happened is EffectStatus.YES else Outcome.FAILED
    return Result(outcome, f"observed: {seen.summary}")


def _stopped(connection: Connection, context: PipelineContext, run: Run) -> stops.Stop | None:
    standing = stops.list_active(connection, context.clock.now())
    return next((stop for stop in standing if stop.applies_to(run.playbook, run.target)), None)


def _intend(
    tx: Tx, context: PipelineContext, run: Run, step: PlannedStep, back: UndoCall, call: PlannedCall, number: int
) -> Attempt:
    lease = timedelta(seconds=step.timeout) + context.pace.margin
    held = runs.save(tx, run, lease_until=max(tx.now + lease, run.lease_until or tx.now), holds_target=True)
    attempt = Attempt(
        id=context.ids.new("attempt", tx.now),
        run_id=run.id,
        step=step.id,
        number=number,
        action=back.action,
        playbook=run.playbook,
        target=run.target,
        mutates=True,
        is_undo=True,
        call={"text": call.text, "arguments": dict(call.arguments), "pin": dict(call.pin)},
        fence=run.fence,
        intent_at=tx.now,
        outcome=None,
        outcome_at=None,
        result=None,
    )
    attempts.record_intent(tx, held, attempt, context.actor)
    return attempt


def conclude(tx: Tx, context: PipelineContext, run: Run, attempt: Attempt, result: Result) -> None:
    """Write down what became of an undo; one that succeeded needs no timer any more."""
    after = runs.save(tx, run)
    written = {"summary": result.summary, "output": dict(result.output)}
    attempts.record_outcome(tx, after, attempt, result.outcome.value, written, context.actor)
    data = {"attempt": attempt.id, "step": attempt.step, "outcome": result.outcome.value, "summary": result.summary}
    tx.append_audit(runs.draft(Kind.ACTION_UNDONE, after, context.actor, data))
    if result.outcome is Outcome.OK:
        timers.complete_undo(tx, run.id, attempt.step)
