"""Putting back what a run has done, where its playbook says how: each by a write-ahead intent like any other action."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection

from remediator.actions import Outcome, Result
from remediator.audit import Kind
from remediator.engine import Engine
from remediator.errors import ClientError, Refused, RemediatorError, TargetError, Unreachable
from remediator.plan import Plan, PlannedCall, PlannedStep
from remediator.records import attempts, runs, stops
from remediator.records.attempts import Attempt
from remediator.run import Run
from remediator.stores import Tx


async def put_back(engine: Engine, run: Run, plan: Plan) -> list[dict[str, Any]]:
    """Undo the steps that took effect, last first; says of each what became of it. Never tried twice."""
    tried = await engine.store.read(lambda connection: attempts.of_run(connection, run.id))
    done = [item.step for item in tried if item.mutates and not item.undoing and item.outcome == Outcome.OK.value]
    begun = {item.step: item for item in tried if item.undoing}
    told = []
    for step in reversed([step for step in plan.steps if step.id in done and step.undo is not None]):
        if step.id in begun:
            outcome = begun[step.id].outcome or Outcome.UNKNOWN.value
            told.append({"step": step.id, "outcome": outcome, "summary": "was tried before"})
        else:
            told.append(await _undo(engine, run, step))
    return told


async def _undo(engine: Engine, run: Run, step: PlannedStep) -> dict[str, Any]:
    assert step.undo is not None
    stopped = await engine.store.read(lambda connection: _stopped(connection, engine, run))
    if stopped is not None:
        return {"step": step.id, "outcome": "not_tried", "summary": f"{stopped.what} stopped by {stopped.who}"}
    action, service = engine.actions[str(step.undo["action"])], engine.book.service(run)
    parameters = action.Parameters.model_validate(step.undo["with"])
    try:
        async with asyncio.timeout(engine.pace.probe.total_seconds()):
            call = await action.plan(service, parameters)
    except (TimeoutError, RemediatorError) as error:
        return {"step": step.id, "outcome": "not_tried", "summary": f"it cannot be planned: {error or 'no answer'}"}
    attempt, begun = await engine.store.write(lambda tx: (_intend(tx, engine, run, step, call), tx.begun))
    try:
        if engine.lapsing(begun):
            raise Unreachable("not begun: too long passed between intent and call, the lease may not last")
        async with asyncio.timeout(step.timeout):
            result = await action.execute(service, parameters, call)
    except (Unreachable, TargetError, Refused) as error:
        result = Result(Outcome.FAILED, str(error))
    except (TimeoutError, ClientError, OSError, ValueError) as error:
        result = Result(Outcome.UNKNOWN, str(error) or f"no answer within {step.timeout:g} s")
    await engine.store.write(lambda tx: _conclude(tx, engine, run, attempt, result))
    return {"step": step.id, "outcome": result.outcome.value, "summary": result.summary}


def _stopped(connection: Connection, engine: Engine, run: Run) -> stops.Stop | None:
    standing = stops.standing(connection, engine.clock.now())
    return next((stop for stop in standing if stop.covers(run.playbook, run.target)), None)


def _intend(tx: Tx, engine: Engine, run: Run, step: PlannedStep, call: PlannedCall) -> Attempt:
    assert step.undo is not None
    lease = timedelta(seconds=step.timeout) + engine.pace.margin
    held = runs.save(tx, run, lease_until=max(tx.now + lease, run.lease_until or tx.now), holds_target=True)
    attempt = Attempt(
        id=engine.ids.new("attempt", tx.now),
        run_id=run.id,
        step=step.id,
        number=1,
        action=str(step.undo["action"]),
        playbook=run.playbook,
        target=run.target,
        mutates=True,
        undoing=True,
        call={"text": call.text, "arguments": dict(call.arguments), "pin": dict(call.pin)},
        fence=run.fence,
        intent_at=tx.now,
        outcome=None,
        outcome_at=None,
        result=None,
    )
    attempts.intend(tx, held, attempt, engine.actor)
    return attempt


def _conclude(tx: Tx, engine: Engine, run: Run, attempt: Attempt, result: Result) -> None:
    after = runs.save(tx, run)
    written = {"summary": result.summary, "output": dict(result.output)}
    attempts.conclude(tx, after, attempt, result.outcome.value, written, engine.actor)
    data = {"attempt": attempt.id, "step": attempt.step, "outcome": result.outcome.value, "summary": result.summary}
    tx.audit(runs.draft(Kind.ACTION_UNDONE, after, engine.actor, data))
