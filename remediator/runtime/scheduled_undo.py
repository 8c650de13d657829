"""Stepping down: a temporary measure is put back when its time is over, by itself, held to all that acting is held to.

The run that took the measure is over by then. It is claimed again, with the next fencing token, and has its hand on its
target for as long as it takes; while another run has, or the stop button is pressed, the measure stays a little longer.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import structlog

from remediator.core.outcome import Outcome
from remediator.core.plan import Plan, PlannedStep, from_data
from remediator.core.run import Run
from remediator.errors import Fenced, RemediatorError, StoreError
from remediator.extensions.actions.base import RUN, Result
from remediator.pipeline.context import PipelineContext
from remediator.pipeline.undo import HELD, conclude, resolve_undo, settle, undo
from remediator.storage import Tx
from remediator.storage.repositories import attempts, outbox, runs, timers
from remediator.storage.repositories.attempts import Attempt
from remediator.storage.repositories.timers import Timer

log: Any = structlog.get_logger("remediator.runtime.scheduled_undo")

TRIES = 5
"""How often it is tried to put something back before people are told that it is still in force."""
PAUSE = timedelta(seconds=5)
"""Before the second try; doubled for each further one."""


async def run_scheduled_undo_loop(context: PipelineContext, poll: float) -> None:
    """See to timers as they come due."""
    while True:
        now = context.clock.now()
        for timer in await context.store.read(lambda connection: timers.list_due_undos(connection, now)):  # noqa: B023
            await run_scheduled_undo(context, timer)
        await context.clock.sleep(poll)


async def run_scheduled_undo(context: PipelineContext, timer: Timer) -> None:
    """Put one measure back, or see to it that it is tried again."""
    lease = context.pace.lease
    run = await context.store.write(lambda tx: runs.claim_finished(tx, timer.run_id, context.replica, lease))
    if run is None:
        return await _later(context, timer, tried=False)
    RUN.set(run.id)
    try:
        told = await _put_back(context, run, timer)
        await context.store.write(lambda tx: _conclude(tx, context, run, timer, told))
    except Fenced as error:
        log.warning("claim lost", run=run.id, message=str(error))
    except StoreError as error:
        log.warning("store unavailable; the claim lapses by itself", run=run.id, message=str(error))


async def _later(context: PipelineContext, timer: Timer, *, tried: bool) -> None:
    pause = PAUSE * 2**timer.tries if tried else min(PAUSE, context.pace.recheck)
    await context.store.write(lambda tx: timers.reschedule(tx, timer, tx.now + pause, tried=tried))


async def _put_back(context: PipelineContext, run: Run, timer: Timer) -> dict[str, Any]:
    """What became of it: outcome and summary."""
    assert run.plan is not None, "it took effect, so it was planned"
    plan: Plan = from_data(run.plan)
    tried = await context.store.read(lambda connection: attempts.list_for_run(connection, run.id))
    mine = [item for item in tried if item.is_undo and item.step == timer.step]
    if mine and mine[-1].outcome == Outcome.OK.value:
        return {"outcome": Outcome.OK.value, "summary": "was put back before"}
    step = plan.step(timer.step)
    if mine and mine[-1].outcome is None:
        return await _found_out(context, run, step, mine[-1], tried)
    try:
        return await undo(context, run, step, tried)
    except (RemediatorError, ValueError) as error:
        if isinstance(error, StoreError):
            raise
        return {"outcome": "not_tried", "summary": str(error)}


async def _found_out(
    context: PipelineContext, run: Run, step: PlannedStep, attempt: Attempt, tried: Any
) -> dict[str, Any]:
    """An undo whose process died: look, and never do it blindly again."""
    unclear = Result(Outcome.UNKNOWN, "the process that began it is gone")
    back = resolve_undo(context, step, tried)
    result = unclear if back is None else await settle(context, run, step, attempt, back, unclear)
    await context.store.write(lambda tx: conclude(tx, context, run, attempt, result))
    return {"outcome": result.outcome.value, "summary": result.summary}


def _conclude(tx: Tx, context: PipelineContext, run: Run, timer: Timer, told: dict[str, Any]) -> None:
    """Done, later, or people are told. An outcome that nobody can tell holds the target until a person has looked."""
    outcome = told["outcome"]
    if outcome == Outcome.OK.value:
        timers.complete_undo(tx, run.id, timer.step)
    elif outcome == Outcome.UNKNOWN.value or timer.tries + 1 >= TRIES:
        timers.complete_undo(tx, run.id, timer.step)
        channels = tuple((run.plan or {}).get("escalate_to", ()))
        content = {"status": "temporary measure still in force", "step": timer.step, "detail": told}
        outbox.enqueue(tx, context.ids, "escalation", run, content, channels)
    else:
        timers.reschedule(tx, timer, tx.now + PAUSE * 2**timer.tries, tried=not told.get(HELD, False))
    runs.release_claim(tx, run)
