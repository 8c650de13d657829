"""After a success: watch whether it lasts, and report a relapse at once as a relapse of that run (promise 7).

A relapse is any of these events:

- The alert of the run fires again.
- The same playbook gets a new run for the same target.
- The checks that proved the success fail.

An alert that simply keeps firing is reported when the watch time ends.
"""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import Connection

from remediator.audit import Kind
from remediator.core.clock import format_duration
from remediator.core.message import MessageKind
from remediator.core.release import ReleaseChange
from remediator.core.run import EpisodeStatus, Run, Status
from remediator.core.run_detail import SucceededDetail
from remediator.errors import ClientError, ConfigurationError, TargetError
from remediator.extensions.checks.base import CheckAnswer
from remediator.pipeline import check_runner, remedy_memory
from remediator.pipeline.context import PipelineContext
from remediator.storage import Tx
from remediator.storage.repositories import attempts, episodes, incidents, outbox, runs, target_locks, timers
from remediator.storage.repositories.timers import Timer


def schedule_check(tx: Tx, context: PipelineContext, run: Run) -> None:
    """Watch a succeeded run from now until the recurrence window is over."""
    first = min(context.timeouts.watch_interval, context.timeouts.recurrence_window)
    timers.schedule_recurrence_check(tx, context.ids, run, first)


def on_refired(tx: Tx, context: PipelineContext, run: Run) -> None:
    """Report a succeeded run whose alert fires again before the episode is over."""
    if run.status is Status.SUCCEEDED:
        _report(tx, context, run, "came_back", f"the alert fires again {_since(tx, run)} it was healed")


def on_new_run(tx: Tx, context: PipelineContext, run: Run) -> None:
    """Report the previous run if it healed the same fault within the recurrence window.

    If that run restored a release, a later release may have the fault. A timer queries the platform about this.
    """
    since = tx.now - context.timeouts.recurrence_window
    healed = incidents.find_healed(tx.connection, run, since)
    if healed is None:
        return
    if _release_changes(tx.connection, healed.id):
        timers.schedule_recurrence_check(tx, context.ids, healed, timedelta(), run.id)
    else:
        _report_return(tx, context, healed, run.id)


def _report_return(tx: Tx, context: PipelineContext, healed: Run, later_run: str) -> None:
    text = f"the fault is back {_since(tx, healed)} it was healed; run {later_run} is for it"
    _report(tx, context, healed, "came_back", text)


def _since(tx: Tx, run: Run) -> str:
    """Return how long ago the run succeeded, as the beginning of a clause."""
    return f"{format_duration(timedelta(seconds=int((tx.now - (run.finished_at or tx.now)).total_seconds())))} after"


async def check_recurrence(context: PipelineContext) -> int:
    """Check the succeeded runs that are watched and due; returns their number. One replica checks each."""
    due = await context.store.read(
        lambda connection: timers.list_due_recurrence_checks(connection, context.clock.now())
    )
    for timer in due:
        await _check(context, timer)
    return len(due)


async def _check(context: PipelineContext, timer: Timer) -> None:
    run = await context.store.read(lambda connection: runs.get(connection, timer.run_id))
    if run is not None and timer.later_run:
        # the alert fires again; it is the fault of this run, unless it is that of a later release
        is_later_release = await _was_released_since(context, run, timer.later_run)

        def report(tx: Tx) -> None:
            if timers.complete(tx, timer) and not is_later_release:
                _report_return(tx, context, run, timer.later_run)

        await context.store.write(report)
        return
    ends = None if run is None or run.finished_at is None else run.finished_at + context.timeouts.recurrence_window
    if run is None or ends is None or context.clock.now() >= ends:
        await context.store.write(lambda tx: _end_watch(tx, context, timer))
        return
    following = min(ends, context.clock.now() + context.timeouts.watch_interval)
    if not await context.store.write(lambda tx: timers.postpone(tx, timer, following)):
        return  # another replica checks the run
    failed = await _failing_check(context, run)
    if failed and await _was_released_since(context, run):
        await context.store.write(lambda tx: timers.complete(tx, timer))
    elif failed:
        await context.store.write(
            lambda tx: _report(tx, context, run, "relapsed", f"{failed}; {_since(tx, run)} it was healed")
        )


async def _was_released_since(context: PipelineContext, run: Run, later_run: str = "") -> bool:
    """Return whether a run restored a release that is no longer in use: what fails now is a later release.

    A later run that has changed the release already knows which one it left.
    """
    changes = await context.store.read(lambda connection: _release_changes(connection, run.id))
    if not changes:
        return False
    later = await context.store.read(lambda connection: _release_changes(connection, later_run)) if later_run else []
    if later:
        return later[0].left != changes[-1].restored
    try:
        service = context.playbooks.service(run)
        releases = await context.platforms[service.platform.kind].releases(service)
    except (ConfigurationError, ClientError, TargetError, KeyError):
        return False  # an unknown state counts as a relapse
    current = next((release.key for release in releases if release.current), None)
    return current is not None and current != changes[-1].restored


def _release_changes(connection: Connection, run_id: str) -> list[ReleaseChange]:
    """Return the releases that a run changed, oldest first, without changes by an undo."""
    tried = attempts.list_for_run(connection, run_id)
    return [change for item in tried if not item.is_undo and (change := remedy_memory.release_change(item))]


async def _failing_check(context: PipelineContext, run: Run) -> str:
    """Return the result of a check of the verification that fails twice in a row; empty if no check does.

    While another run acts on the target, its checks prove nothing about this run.
    """
    try:
        service = context.playbooks.service(run)
    except ConfigurationError:
        return ""  # the target is no longer in the inventory
    if (
        run.plan is None
        or await context.store.read(lambda c: target_locks.lock_holder(c, run.target, run.id)) is not None
    ):
        return ""
    for check in run.plan.checks:
        found = await check_runner.observe(context, check.check, service, check.parameters)
        if found.answer is CheckAnswer.FAIL:
            await context.clock.sleep(context.timeouts.verify_interval.total_seconds())
            again = await check_runner.observe(context, check.check, service, check.parameters)
            return f"{check.check}: {again.summary}" if again.answer is CheckAnswer.FAIL else ""
    return ""


def _end_watch(tx: Tx, context: PipelineContext, timer: Timer) -> None:
    run = runs.get(tx.connection, timer.run_id)
    if not timers.complete(tx, timer) or run is None:
        return
    alerts = episodes.list_for_run(tx.connection, run.id)
    firing = sorted({alert.alertname for alert in alerts if alert.status is EpisodeStatus.FIRING})
    if firing:
        _report(tx, context, run, "still_firing", f"the run was verified, and {', '.join(firing)} still fires")


def _report(tx: Tx, context: PipelineContext, run: Run, reason: str, text: str) -> None:
    """Notify people, once for each run."""
    if not runs.mark_ineffective(tx, run.id):
        return
    tx.append_audit(runs.draft(Kind.RUN_INEFFECTIVE, run, context.actor, {"text": text}, reason))
    if run.plan is not None and isinstance(run.detail, SucceededDetail) and run.detail.step:
        remedy_memory.record_ineffective(tx, context, run, run.plan.step(run.detail.step), text)
    content = {"status": run.status.value, "reason": reason, "detail": {"text": text}}
    outbox.enqueue_for_incident(tx, context.ids, MessageKind.ESCALATION, run, content, run.escalate_to)
