"""Escalate a run that has ended: notify people, unless our own repair may have caused its alerts."""

from __future__ import annotations

from functools import partial

from remediator.core.message import MessageKind
from remediator.core.run import EpisodeStatus, Run
from remediator.errors import ConfigurationError
from remediator.pipeline import incident
from remediator.pipeline.context import PipelineContext
from remediator.storage import Tx
from remediator.storage.repositories import episodes, outbox, runs, timers
from remediator.storage.repositories.timers import Timer


def escalate(tx: Tx, context: PipelineContext, run: Run) -> None:
    """Notify people of a run that ended escalated or failed.

    Its alerts may have begun while another run of the incident repaired something, or waited for the end of the fault.
    Then people are notified only if the alerts still fire when that run has settled. Otherwise the incident gets a
    note.
    """
    settles_at = incident.repair_settles_at(tx.connection, run, tx.now)
    if settles_at is None:
        content = {"status": run.status.value, "reason": run.reason, "detail": run.detail.to_data()}
        outbox.enqueue_for_incident(tx, context.ids, MessageKind.ESCALATION, run, content, channels(context, run))
    else:
        timers.schedule_escalation(tx, context.ids, run, settles_at - tx.now)


async def escalate_due(context: PipelineContext) -> int:
    """Notify people of runs whose alerts still fire after the repair that may have caused them; returns the number."""
    now = context.clock.now()
    due = await context.store.read(lambda connection: timers.list_due_escalations(connection, now))
    for timer in due:
        await context.store.write(partial(_escalate_due, context=context, timer=timer))
    return len(due)


def _escalate_due(tx: Tx, context: PipelineContext, timer: Timer) -> None:
    run = runs.get(tx.connection, timer.run_id)
    if not timers.complete(tx, timer) or run is None:
        return  # another replica escalated the run
    alerts = episodes.list_for_run(tx.connection, run.id)
    if all(item.status is not EpisodeStatus.FIRING for item in alerts):
        names = ", ".join(sorted({item.alertname for item in alerts}))
        began = f"{names} on {run.target} began while another run of the incident was under way"
        text = f"{began}, and was over when that had settled"
        incident.note(tx, context, run, text)
    else:
        escalate(tx, context, run)  # if the repair still runs, the run waits again


def channels(context: PipelineContext, run: Run) -> tuple[str, ...]:
    """Return the channels to notify: the plan's, or the playbook's if no plan could be made."""
    if run.plan is not None:
        return run.plan.escalate_to
    try:
        return tuple(context.playbooks.version_for(run).escalate.to)
    except ConfigurationError:
        return ()  # neither files nor store have this version; the run's page still shows the escalation
