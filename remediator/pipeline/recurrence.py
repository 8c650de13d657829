"""After a success: an alert that goes on firing, or comes back, was not healed. People are told; silence would lie."""

from __future__ import annotations

from datetime import timedelta

from remediator.audit import Kind
from remediator.core.run import EpisodeStatus, Run, Status
from remediator.pipeline.context import PipelineContext
from remediator.storage import Tx
from remediator.storage.repositories import episodes, outbox, runs, timers
from remediator.storage.repositories.timers import Timer


def watch_on(tx: Tx, context: PipelineContext, run: Run, patience: timedelta) -> None:
    """Look later whether the alerts of a run that succeeded are over."""
    timers.schedule_recurrence_check(tx, context.ids, run, patience)


def came_back(tx: Tx, context: PipelineContext, run: Run) -> None:
    """An alert of this run's incident fires again, after the run has ended."""
    if run.status is Status.SUCCEEDED:
        _tell(tx, context, run, "came_back", "it was proved well, and its alert fires again within the quiet time")


async def check_recurrence(context: PipelineContext) -> int:
    """Look at the successes whose time has come; returns how many."""
    waiting = await context.store.read(
        lambda connection: timers.list_due_recurrence_checks(connection, context.clock.now())
    )
    for timer in waiting:
        await context.store.write(lambda tx, item=timer: _look(tx, context, item))  # type: ignore[misc]
    return len(waiting)


def _look(tx: Tx, context: PipelineContext, timer: Timer) -> None:
    run = runs.get(tx.connection, timer.run_id)
    if not timers.complete(tx, timer) or run is None:
        return
    firing = [one for one in episodes.list_for_run(tx.connection, run.id) if one.status is EpisodeStatus.FIRING]
    if firing:
        names = ", ".join(sorted({one.alertname for one in firing}))
        _tell(tx, context, run, "still_firing", f"it was proved well, and {names} still fires")


def _tell(tx: Tx, context: PipelineContext, run: Run, reason: str, text: str) -> None:
    """Once for each incident."""
    if not runs.mark_ineffective(tx, run.id):
        return
    tx.append_audit(runs.draft(Kind.RUN_INEFFECTIVE, run, context.actor, {"text": text}, reason))
    content = {"status": run.status.value, "reason": reason, "detail": {"text": text}}
    outbox.enqueue(tx, context.ids, "escalation", run, content, tuple((run.plan or {}).get("escalate_to", ())))
