"""The table of pipeline stages: which stage handles a run in which status.

Together with :data:`remediator.core.run.TRANSITIONS` it is the state machine. ``receive`` and ``match`` run before
a run exists; see :mod:`remediator.pipeline.receive` and :mod:`remediator.pipeline.ingest`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from remediator.core.run import TERMINAL, Episode, EpisodeStatus, Run, Status
from remediator.errors import ConfigurationError
from remediator.extensions.actions.base import RUN
from remediator.pipeline.act import act, observe
from remediator.pipeline.approve import await_approval
from remediator.pipeline.context import PipelineContext, StageResult, proceed, wait_until
from remediator.pipeline.guard import guard_plan
from remediator.pipeline.guard_evaluation import intend, on_run_finished
from remediator.pipeline.planning import plan_run
from remediator.pipeline.recurrence import watch_on
from remediator.pipeline.verify import verify
from remediator.storage import Tx
from remediator.storage.repositories import approvals, attempts, episodes, outbox, runs

Verb = Callable[[PipelineContext, Run], Awaitable[StageResult]]

LINE: Mapping[Status, Verb] = {
    Status.MATCHED: plan_run,
    Status.PLANNED: guard_plan,
    Status.BLOCKED: guard_plan,
    Status.AWAITING_APPROVAL: await_approval,
    Status.RUNNING: act,
    Status.UNKNOWN_OUTCOME: observe,
    Status.VERIFYING: verify,
}

_NOT_YET_ACTING = (Status.MATCHED, Status.PLANNED, Status.BLOCKED, Status.AWAITING_APPROVAL)


async def advance(context: PipelineContext, run: Run) -> StageResult:
    """Move a claimed run on by one verb, or by what happened around it: cancelled, resolved, out of time."""
    RUN.set(run.id)
    if run.status in TERMINAL:
        await intend(context, lambda tx: finish(tx, context, run))
        return wait_until(run, None)
    if await context.store.read(lambda connection: _is_overtaken(connection, context, run)):
        overtaken = await context.store.write(lambda tx: _overtaken(tx, context, run))
        if overtaken is not None:
            return overtaken
    return await LINE[run.status](context, run)


def _is_overtaken(connection: Connection, context: PipelineContext, run: Run) -> bool:
    """Whether it is worth a transaction to look closer."""
    late = run.due_by is not None and context.clock.now() >= run.due_by
    if run.cancel_request is not None or late or run.reason == "resolved":
        return True
    return all(alert.status is not EpisodeStatus.FIRING for alert in episodes.list_for_run(connection, run.id))


def _overtaken(tx: Tx, context: PipelineContext, run: Run) -> StageResult | None:
    if run.status is Status.UNKNOWN_OUTCOME:
        return None  # first find out what was done; every other question waits for that
    if run.status is Status.RUNNING and attempts.get_in_flight(tx.connection, run.id) is not None:
        return None  # likewise: the verb will say so
    if run.cancel_request is not None:
        return proceed(_end(tx, context, run, Status.CANCELLED, "cancelled", run.cancel_request))
    if run.due_by is not None and tx.now >= run.due_by:
        return proceed(_end(tx, context, run, Status.ESCALATED, "deadline", {"deadline": run.due_by.isoformat()}))
    return _resolved(tx, context, run, episodes.list_for_run(tx.connection, run.id))


def _end(tx: Tx, context: PipelineContext, run: Run, to: Status, reason: str, detail: Mapping[str, Any]) -> Run:
    approvals.void(tx, run, reason, context.actor)
    return runs.transition(tx, run, to, reason, detail, context.actor)


def _resolved(tx: Tx, context: PipelineContext, run: Run, alerts: Sequence[Episode]) -> StageResult | None:
    """An alert that ended by itself: nothing is begun any more, what was begun is finished and verified."""
    if any(alert.status is EpisodeStatus.FIRING for alert in alerts):
        if run.status is Status.BLOCKED and run.reason == "resolved":
            return proceed(_to(tx, context, run, Status.MATCHED, "fired_again", {}))
        return None
    if run.status is Status.RUNNING or (run.status is Status.BLOCKED and run.resume_to is Status.RUNNING):
        return proceed(_stop_acting(tx, context, run))
    if run.status not in _NOT_YET_ACTING:
        return None
    quiet_until = max((alert.closes_at for alert in alerts if alert.closes_at and _quiet(alert)), default=None)
    if quiet_until is None:
        return proceed(_end(tx, context, run, Status.CANCELLED, "resolved", {"by": "itself"}))
    return _hold_quiet(tx, context, run, quiet_until)


def _quiet(alert: Episode) -> bool:
    return alert.status is EpisodeStatus.RESOLVED


def _hold_quiet(tx: Tx, context: PipelineContext, run: Run, until: datetime) -> StageResult:
    if run.status is Status.BLOCKED and run.reason == "resolved":
        return wait_until(run, max(until, tx.now + context.pace.recheck))  # over, and not swept up yet: that pokes it
    if run.status is Status.BLOCKED:
        return wait_until(runs.save(tx, run, reason="resolved", detail={"until": until.isoformat()}), until)
    approvals.void(tx, run, "resolved", context.actor)
    detail = {"until": until.isoformat()}
    return wait_until(_to(tx, context, run, Status.BLOCKED, "resolved", detail, resume_to=Status.MATCHED), until)


def _stop_acting(tx: Tx, context: PipelineContext, run: Run) -> Run:
    done = [item for item in attempts.list_for_run(tx.connection, run.id) if item.mutates]
    if not done:
        return _end(tx, context, run, Status.CANCELLED, "resolved", {"by": "itself"})
    detail = {"step": done[-1].step, "since": tx.now.isoformat(), "resolved": True}
    return _to(tx, context, run, Status.VERIFYING, "resolved", detail)


def _to(
    tx: Tx, context: PipelineContext, run: Run, to: Status, reason: str, detail: Mapping[str, Any], **changes: Any
) -> Run:
    return runs.transition(tx, run, to, reason, detail, context.actor, **changes)


def _whom(context: PipelineContext, run: Run) -> tuple[str, ...]:
    """The channels to tell: the plan's, or the playbook's where no plan could be made."""
    if run.plan is not None:
        return tuple(run.plan.get("escalate_to", ()))
    try:
        return tuple(context.playbooks.of(run).escalate.to)
    except ConfigurationError:
        return ()  # a version that nobody has any more; the run's page still says it


def finish(tx: Tx, context: PipelineContext, run: Run) -> None:
    """What follows from a run's end: people are told, and the incident is closed if its alerts are over."""
    if run.status in (Status.ESCALATED, Status.FAILED):
        content = {"status": run.status.value, "reason": run.reason, "detail": dict(run.detail)}
        outbox.enqueue(tx, context.ids, "escalation", run, content, _whom(context, run))
    if run.status is Status.SUCCEEDED:
        watch_on(tx, context, run, context.pace.patience)
    outbox.enqueue_update(tx, run.id, run.status.value)
    on_run_finished(tx, context, run)
    runs.get(tx.connection, run.id, lock=True)  # against the sweep that closes episodes: one of the two comes last
    if all(alert.status is EpisodeStatus.CLOSED for alert in episodes.list_for_run(tx.connection, run.id)):
        runs.close_incident(tx, [run.id])
    runs.release(tx, run, None, run.wakeup_count)
