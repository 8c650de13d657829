"""After a success: report an alert that keeps firing, or that returns, because the run did not help (promise 7)."""

from __future__ import annotations

from remediator.audit import Kind
from remediator.core.run import EpisodeStatus, Run, Status
from remediator.core.run_detail import SucceededDetail
from remediator.pipeline import remedy_memory
from remediator.pipeline.context import PipelineContext
from remediator.storage import Tx
from remediator.storage.repositories import episodes, outbox, runs, timers
from remediator.storage.repositories.timers import Timer


def schedule_check(tx: Tx, context: PipelineContext, run: Run) -> None:
    """Check after the recurrence window whether the alerts of a succeeded run are over."""
    timers.schedule_recurrence_check(tx, context.ids, run, context.timeouts.recurrence_window)


def on_refired(tx: Tx, context: PipelineContext, run: Run) -> None:
    """Report a succeeded run whose alert fires again before the episode is over."""
    if run.status is Status.SUCCEEDED:
        _report(tx, context, run, "came_back", "the run was verified, and its alert fires again")


async def check_recurrence(context: PipelineContext) -> int:
    """Check the succeeded runs whose recurrence window is over; returns their number."""
    due = await context.store.read(
        lambda connection: timers.list_due_recurrence_checks(connection, context.clock.now())
    )
    for timer in due:
        await context.store.write(lambda tx, item=timer: _check(tx, context, item))  # type: ignore[misc]
    return len(due)


def _check(tx: Tx, context: PipelineContext, timer: Timer) -> None:
    run = runs.get(tx.connection, timer.run_id)
    if not timers.complete(tx, timer) or run is None:
        return
    alerts = episodes.list_for_run(tx.connection, run.id)
    firing = sorted({alert.alertname for alert in alerts if alert.status is EpisodeStatus.FIRING})
    if firing:
        _report(tx, context, run, "still_firing", f"the run was verified, and {', '.join(firing)} still fires")


def _report(tx: Tx, context: PipelineContext, run: Run, reason: str, text: str) -> None:
    """Notify people, once for each incident."""
    if not runs.mark_ineffective(tx, run.id):
        return
    tx.append_audit(runs.draft(Kind.RUN_INEFFECTIVE, run, context.actor, {"text": text}, reason))
    if run.plan is not None and isinstance(run.detail, SucceededDetail) and run.detail.step:
        remedy_memory.record_ineffective(tx, context, run, run.plan.step(run.detail.step), text)
    content = {"status": run.status.value, "reason": reason, "detail": {"text": text}}
    outbox.enqueue(tx, context.ids, "escalation", run, content, run.escalate_to)
