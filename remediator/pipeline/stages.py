"""The table of pipeline stages: the stage for each status of a run.

Together with :data:`remediator.core.run.TRANSITIONS` it is the state machine. ``receive`` and ``match`` run before
a run exists; see :mod:`remediator.pipeline.receive` and :mod:`remediator.pipeline.ingest`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from remediator.core.run import TERMINAL, Episode, EpisodeStatus, Reason, Run, Status
from remediator.core.run_detail import (
    BlockedDetail,
    CancelledDetail,
    Detail,
    EscalatedDetail,
    MatchedDetail,
    ShadowDecision,
    VerifyingDetail,
)
from remediator.extensions.actions.base import RUN
from remediator.pipeline.act import act, observe
from remediator.pipeline.approve import await_approval
from remediator.pipeline.context import PipelineContext, StageResult, proceed, wait_until
from remediator.pipeline.escalation import escalate
from remediator.pipeline.guard import guard_plan
from remediator.pipeline.guard_evaluation import on_run_finished
from remediator.pipeline.manual_start import end_manual_episode
from remediator.pipeline.planning import plan_run
from remediator.pipeline.recorded import claimed_problem
from remediator.pipeline.recurrence import schedule_check
from remediator.pipeline.run_context import Origin, RunContext, RunTransaction, with_intent_lock
from remediator.pipeline.verify import verify
from remediator.storage import Tx
from remediator.storage.repositories import attempts, episodes, outbox, run_claims, runs

Stage = Callable[[RunContext], Awaitable[StageResult]]

STAGES: Mapping[Status, Stage] = {
    Status.MATCHED: plan_run,
    Status.PLANNED: guard_plan,
    Status.BLOCKED: guard_plan,
    Status.AWAITING_APPROVAL: await_approval,
    Status.RUNNING: act,
    Status.UNKNOWN_OUTCOME: observe,
    Status.VERIFYING: verify,
}

_BEFORE_ACTING = (Status.MATCHED, Status.PLANNED, Status.BLOCKED, Status.AWAITING_APPROVAL)


async def advance(
    context: PipelineContext, run: Run, origin: Origin = Origin.CLAIMED, alerts: Sequence[Episode] = ()
) -> StageResult:
    """Continue a claimed run until the next commit, or end it if it was cancelled, resolved or took too long.

    Stages whose changes may be decided again follow each other without a commit (:meth:`RunContext.change`).

    Args:
        context: the dependencies.
        run: the run.
        origin: where this process got the run from. A run that was read from a row must equal the audit log.
        alerts: the episodes of the run, if this process created it.
    """
    RUN.set(run.id)
    if run.status in TERMINAL:
        await with_intent_lock(context, lambda tx: finish(tx, context, run))
        return wait_until(run, None)
    ctx = RunContext(context, run, origin=origin, alerts=alerts)
    if origin is Origin.CLAIMED and run.cancel_request is None:  # a cancelled run ends in any case
        problem = await context.store.read(lambda connection: claimed_problem(connection, run, context.store.redactor))
        if problem is not None:
            return proceed(await ctx.write(lambda tx: tx.escalate_unrecorded(problem)))
    await ctx.look()
    if await _may_be_interrupted(ctx):
        interrupted = await ctx.write(_interrupt)
        if interrupted is not None:
            return interrupted
    result = await STAGES[ctx.run.status](ctx)
    while ctx.has_changes and not result.waits:
        result = await STAGES[ctx.run.status](ctx)
    await ctx.flush()  # commit the changes first: a waiting run must find them in the store
    return replace(result, run=ctx.run)


async def _may_be_interrupted(ctx: RunContext) -> bool:
    """Return whether a transaction is worthwhile to decide about an interruption."""
    run = ctx.run
    late = run.due_by is not None and ctx.now() >= run.due_by
    if run.cancel_request is not None or late or run.reason is Reason.RESOLVED or _is_gone(ctx.pipeline, run):
        return True
    return all(alert.status is not EpisodeStatus.FIRING for alert in await ctx.alerts())


def _interrupt(tx: RunTransaction) -> StageResult | None:
    """End or hold a run because of something outside it; None to continue with its stage."""
    run = tx.run
    # The order matters. 1. A call whose outcome is open is settled before anything else (promise 3).
    if run.status is Status.UNKNOWN_OUTCOME:
        return None
    if run.status is Status.RUNNING and attempts.get_in_flight(tx.connection, run.id) is not None:
        return None
    # 2. The decision of a person comes before every automatic decision (promise 10).
    if (request := run.cancel_request) is not None:
        detail = CancelledDetail(who=request["who"], reason=request["reason"], would=_would(run))
        return proceed(_end(tx, Status.CANCELLED, Reason.CANCELLED, detail))
    # 3. A run that takes too long is escalated (promise 12).
    if run.due_by is not None and tx.now >= run.due_by:
        return proceed(_end(tx, Status.ESCALATED, Reason.DEADLINE, EscalatedDetail(deadline=run.due_by)))
    # 4. A resolved alert starts nothing new.
    if (resolved := _resolved(tx)) is not None:
        return resolved
    # 5. Nothing is done to a target that the inventory no longer has, written or discovered (promise 8).
    if _is_gone(tx.pipeline, tx.run):
        text = f"the inventory no longer has {tx.run.target}; nothing more is done to it"
        return proceed(_end(tx, Status.ESCALATED, Reason.TARGET_GONE, EscalatedDetail(text=text)))
    return None


def _is_gone(pipeline: PipelineContext, run: Run) -> bool:
    """Return whether the inventory no longer has the target. Planning escalates a target that it does not have."""
    planned = run.status is not Status.MATCHED and run.plan is not None
    return planned and run.target not in pipeline.playbooks.inventory


def _end(tx: RunTransaction, to: Status, reason: Reason, detail: Detail) -> Run:
    tx.void_request(reason.value)
    return tx.move(to, reason, detail)


def _would(run: Run) -> ShadowDecision | None:
    """Return the action that mode ``shadow`` prevented: evidence for a higher mode, also after the end of the run."""
    return run.detail.would if isinstance(run.detail, BlockedDetail) else None


def _end_resolved(tx: RunTransaction) -> Run:
    detail = CancelledDetail(text="the alert resolved before anything was done", would=_would(tx.run))
    return _end(tx, Status.CANCELLED, Reason.RESOLVED, detail)


def _resolved(tx: RunTransaction) -> StageResult | None:
    """Start nothing new for an alert that resolved. A call that began is finished and verified."""
    run, alerts = tx.run, episodes.list_for_run(tx.connection, tx.run.id)
    if any(alert.status is EpisodeStatus.FIRING for alert in alerts):
        if run.status is Status.BLOCKED and run.reason is Reason.RESOLVED:
            return proceed(tx.move(Status.MATCHED, Reason.FIRED_AGAIN, MatchedDetail()))
        return None
    if run.status is Status.RUNNING or (run.status is Status.BLOCKED and run.resume_to is Status.RUNNING):
        done = [item for item in attempts.list_for_run(tx.connection, tx.run.id) if item.mutates]
        if not done:
            return proceed(_end_resolved(tx))
        detail = VerifyingDetail(step=done[-1].step, since=tx.now, resolved=True)
        return proceed(tx.move(Status.VERIFYING, Reason.RESOLVED, detail))
    if run.status not in _BEFORE_ACTING:
        return None
    resolved = [alert.closes_at for alert in alerts if alert.status is EpisodeStatus.RESOLVED and alert.closes_at]
    if not resolved:
        return proceed(_end_resolved(tx))
    return _hold_until_closed(tx, max(resolved))


def _hold_until_closed(tx: RunTransaction, until: datetime) -> StageResult:
    """Hold a run with a resolved alert until the episode closes; a firing before that continues it (promise 2)."""
    run = tx.run
    if run.status is Status.BLOCKED and run.reason is Reason.RESOLVED:
        # the close loop notifies the run; until then, do not advance it in a loop
        return wait_until(run, max(until, tx.now + tx.pipeline.timeouts.guard_recheck_interval))
    detail = BlockedDetail(until=until, would=_would(run))
    if run.status is Status.BLOCKED:
        return wait_until(tx.set_reason(Reason.RESOLVED, detail), until)
    tx.void_request(Reason.RESOLVED.value)
    return wait_until(tx.move(Status.BLOCKED, Reason.RESOLVED, detail, resume_to=Status.MATCHED), until)


def finish(tx: Tx, context: PipelineContext, run: Run) -> None:
    """Handle the end of a run: notify people, and close the incident if its alerts are over."""
    if run.status in (Status.ESCALATED, Status.FAILED):
        escalate(tx, context, run)
    if run.status is Status.SUCCEEDED:
        schedule_check(tx, context, run)
    outbox.enqueue_update(tx, run.id, run.status.value)
    outbox.enqueue_incident_update(tx, run, run.status.value)
    on_run_finished(tx, context, run)
    end_manual_episode(tx, run, context.actor)
    # the loop that closes episodes locks the row too, so neither can miss the other
    runs.get(tx.connection, run.id, lock=True)
    if all(alert.status is EpisodeStatus.CLOSED for alert in episodes.list_for_run(tx.connection, run.id)):
        runs.close_incident(tx, [run.id])
        outbox.enqueue_incident_update(tx, run, "over")
    run_claims.release(tx, run, None, run.wakeup_count)
