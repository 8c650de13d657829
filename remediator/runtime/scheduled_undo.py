"""Scheduled undo: a temporary measure is undone automatically when its time is over, by the rules of every action.

An undo that a person requests is a scheduled undo that is due at once (:mod:`remediator.pipeline.manual_undo`).

The run that took the measure is finished by then. It is claimed again, with the next fencing token, and locks its
target for the undo. While another run holds the target, or a stop is active, the measure stays a little longer.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import structlog

from remediator.audit import Kind
from remediator.core import progress
from remediator.core.message import MessageKind
from remediator.core.outcome import Outcome
from remediator.errors import Fenced, RemediatorError, StoreError
from remediator.extensions.actions.base import RUN
from remediator.pipeline.context import PipelineContext
from remediator.pipeline.run_context import RunContext, RunTransaction
from remediator.pipeline.undo import UndoResult, settle_lost_undo, undo
from remediator.storage.repositories import outbox, run_claims, timers
from remediator.storage.repositories.timers import Timer, UndoRequest

log: Any = structlog.get_logger("remediator.runtime.scheduled_undo")

MAX_TRIES = 5
"""How often an undo is tried before people are notified that the measure is still in force."""
RETRY_DELAY = timedelta(seconds=5)
"""Delay before the second try; doubled for each further one."""
_ONE_UNDO = 900.0  # seconds that one undo may take


async def run_scheduled_undo_loop(context: PipelineContext, poll: float) -> None:
    """Run the scheduled undos as they come due."""
    while True:
        now = context.clock.now()
        for timer in await context.store.read(lambda connection: timers.list_due_undos(connection, now)):  # noqa: B023
            progress.report(_ONE_UNDO)
            await run_scheduled_undo(context, timer)
        progress.report(poll)
        await context.clock.sleep(poll)


async def run_scheduled_undo(context: PipelineContext, timer: Timer) -> None:
    """Undo one measure, or schedule another try."""
    lease = context.timeouts.lease
    run = await context.store.write(lambda tx: run_claims.claim_finished(tx, timer.run_id, context.replica, lease))
    if run is None:  # the target or the run is busy; this does not count as an attempt
        pause = min(RETRY_DELAY, context.timeouts.guard_recheck_interval)
        await context.store.write(lambda tx: timers.reschedule(tx, timer, tx.now + pause, tried=False))
        return
    RUN.set(run.id)
    ctx = RunContext(context, run)
    try:
        result = await _undo(ctx, timer)
        await ctx.write(lambda tx: _conclude(tx, timer, result))
    except Fenced as error:
        log.warning("claim lost", run=run.id, message=str(error))
    except StoreError as error:
        log.warning("store unavailable, claim expires", run=run.id, message=str(error))


async def _undo(ctx: RunContext, timer: Timer) -> UndoResult:
    tried, step = await ctx.attempts(), ctx.plan.step(timer.step)
    last = next((item for item in reversed(tried) if item.is_undo and item.step == timer.step), None)
    # 1. An undo that succeeded is not done again.
    if last is not None and last.outcome == Outcome.OK.value:
        return UndoResult(step.id, Outcome.OK.value, "was undone before")
    # 2. An undo whose process ended is observed, and never repeated blindly (promise 3).
    if last is not None and last.outcome is None:
        return await settle_lost_undo(ctx, step, last, tried)
    try:
        return await undo(ctx, step, tried, timer.request)
    except StoreError:
        raise
    except (RemediatorError, ValueError) as error:
        return UndoResult(step.id, "not_tried", str(error))


def _conclude(tx: RunTransaction, timer: Timer, result: UndoResult) -> None:
    """Complete the timer, schedule another try, or notify people. After an unknown outcome the target stays locked."""
    if timer.request is not None:
        _conclude_request(tx, timer, timer.request, result)
    elif result.outcome == Outcome.OK.value:
        timers.complete_undo(tx.tx, tx.run.id, timer.step)
    elif result.outcome == Outcome.UNKNOWN.value or timer.tries + 1 >= MAX_TRIES:
        timers.complete_undo(tx.tx, tx.run.id, timer.step)
        content = {"status": "temporary measure still in force", "step": timer.step, "detail": result.to_data()}
        outbox.enqueue(tx.tx, tx.pipeline.ids, MessageKind.ESCALATION, tx.run, content, tx.run.escalate_to)
    else:
        at = tx.now + RETRY_DELAY * 2**timer.tries
        timers.reschedule(tx.tx, timer, at, tried=not result.stopped)
    run_claims.release_claim(tx.tx, tx.run)


def _conclude_request(tx: RunTransaction, timer: Timer, request: UndoRequest, result: UndoResult) -> None:
    """Complete the request of a person, with any result: the person decides whether to ask again.

    Steps that were not tried get their audit entry here; the outcome of a call was written with the call.
    """
    timers.complete(tx.tx, timer)
    if result.outcome == Outcome.OK.value:
        timers.complete_undo(tx.tx, tx.run.id, timer.step)
    elif result.outcome == "not_tried":
        tx.audit(Kind.ACTION_UNDONE, {"attempt": None, **result.to_data()})
    text = f"undo of step {timer.step}, requested by {request.person}: {_OUTCOMES[result.outcome]}: {result.summary}"
    about = {"about": "undo" if result.outcome == Outcome.OK.value else "undo failed", "text": text}
    outbox.enqueue(tx.tx, tx.pipeline.ids, MessageKind.NOTICE, tx.run, about, tx.run.escalate_to)
    outbox.enqueue_incident_update(tx.tx, tx.run, f"undone {timer.step}")


_OUTCOMES = {
    "ok": "done",
    "failed": "failed",
    "unknown": "it is unknown whether it took effect",
    "not_tried": "not tried",
}
