"""Maintenance of a replica: heartbeat, recurrence checks, detection of stuck runs, deletion of old notifications."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

import structlog

from remediator import __version__
from remediator.core import progress
from remediator.core.message import MessageKind
from remediator.core.run import ENGINE_VERSION, Run
from remediator.errors import StoreUnavailable
from remediator.pipeline.context import PipelineContext
from remediator.pipeline.escalation import escalate_due
from remediator.pipeline.recurrence import check_recurrence
from remediator.storage import Tx
from remediator.storage.repositories import inbox, outbox, replicas, runs, stuck_runs

log: Any = structlog.get_logger("remediator.runtime.maintenance")

REPLICA_TIMEOUT = timedelta(seconds=60)
"""A replica without a heartbeat for this long has stopped."""
STUCK_AFTER = timedelta(minutes=10)
"""A run is stuck if it is due, or should change its status, and has not for this long."""


@dataclass(frozen=True, slots=True)
class MaintenanceSettings:
    """How often to run, what to keep, and which channels to notify.

    Args:
        role: the role of this replica.
        every: time between two runs of the maintenance.
        inbox_retention: how long processed notifications are kept.
        channels: notified of a stuck run without a plan.
    """

    role: str = "all"
    every: timedelta = timedelta(seconds=15)
    inbox_retention: timedelta = timedelta(days=30)
    channels: tuple[str, ...] = ()


async def run_maintenance_loop(context: PipelineContext, settings: MaintenanceSettings) -> None:
    """Run the maintenance at an interval."""
    while True:
        await run_maintenance(context, settings)
        progress.report(settings.every.total_seconds())
        await context.clock.sleep(settings.every.total_seconds())


async def run_maintenance(context: PipelineContext, settings: MaintenanceSettings) -> None:
    """Run the maintenance once."""
    await context.store.write(
        lambda tx: replicas.record_heartbeat(tx, context.replica, __version__, ENGINE_VERSION, settings.role)
    )
    await check_recurrence(context)
    await escalate_due(context)
    stuck = await context.store.read(
        lambda connection: stuck_runs.list_stuck(connection, context.clock.now() - STUCK_AFTER)
    )
    for run in stuck:
        await context.store.write(partial(_report_stuck, context=context, settings=settings, run=run))

    def clean_up(tx: Tx) -> None:
        inbox.delete_processed(tx, tx.now - settings.inbox_retention)
        runs.close_orphaned_incidents(tx)

    await context.store.write(clean_up)


def _report_stuck(tx: Tx, context: PipelineContext, settings: MaintenanceSettings, run: Run) -> None:
    """Log a stuck run and notify, once for each status in which it is stuck."""
    if not stuck_runs.mark_reported(tx, run):
        return
    if run.engine_version <= ENGINE_VERSION:
        advice = "check the logs"
    else:
        advice = f"it needs engine {run.engine_version}: start the newer version"
    text = f"run {run.id} of {run.playbook} on {run.target} is stuck in {run.status}; {advice}"
    log.error("run stuck", run=run.id, status=run.status.value, engine=run.engine_version)
    channels = run.escalate_to or settings.channels
    outbox.enqueue(tx, context.ids, MessageKind.NOTICE, run, {"about": "stuck", "text": text}, channels)


async def require_compatible_replicas(context: PipelineContext) -> None:
    """Refuse to start beside replicas or runs that differ by more than one engine version.

    One version is the difference during an upgrade; more is a mistake. On SQLite there is no other replica that could
    continue the runs of a newer version, so those are refused as well.

    Raises:
        StoreUnavailable: a running replica or an open run has an incompatible engine version.
    """
    others = await context.store.read(
        lambda connection: replicas.list_alive(connection, context.clock.now() - REPLICA_TIMEOUT)
    )
    for other in others:
        if abs(other.engine_version - ENGINE_VERSION) > 1:
            raise StoreUnavailable(
                f"replica {other.id} runs engine {other.engine_version} (version {other.version}), but this is "
                f"engine {ENGINE_VERSION} (version {__version__}); engines may differ by one: upgrade step by step"
            )
    newest = ENGINE_VERSION + (context.store.name != "sqlite")
    for run in await context.store.read(stuck_runs.list_unsupported):
        about = f"run {run.id} of {run.playbook} on {run.target}"
        if run.engine_version > newest:
            needed = f"{about} needs engine {run.engine_version}, and this is engine {ENGINE_VERSION}"
            raise StoreUnavailable(f"{needed}; start the newer version, and let the run finish there")
        if run.engine_version <= ENGINE_VERSION:
            unknown = f"{about} has the unknown status '{run.status}'"
            raise StoreUnavailable(f"{unknown}; start the version that wrote it, and let the run finish there")
