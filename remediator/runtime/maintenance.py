"""Housekeeping of a replica: it says that it lives, looks for runs that are stuck, and clears away what is old."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import structlog

from remediator import __version__
from remediator.core.run import ENGINE_VERSION, Run
from remediator.errors import StoreUnavailable
from remediator.pipeline.context import PipelineContext
from remediator.pipeline.recurrence import check_recurrence
from remediator.storage import Tx
from remediator.storage.repositories import inbox, outbox, replicas, runs, stuck_runs

log: Any = structlog.get_logger("remediator.runtime.maintenance")

REPLICA_TIMEOUT = timedelta(seconds=60)
"""A replica that was not heard of for so long is gone."""
STUCK_AFTER = timedelta(minutes=10)
"""Longest time that a run may be due, or in a state that moves by itself, without moving."""


@dataclass(frozen=True, slots=True)
class MaintenanceSettings:
    """What is kept, and who is told."""

    role: str = "all"
    every: timedelta = timedelta(seconds=15)
    keep: timedelta = timedelta(days=30)
    """How long notifications are kept after they were taken in."""
    channels: tuple[str, ...] = ()


async def run_maintenance_loop(context: PipelineContext, settings: MaintenanceSettings) -> None:
    """Every so often."""
    while True:
        await run_maintenance(context, settings)
        await context.clock.sleep(settings.every.total_seconds())


async def run_maintenance(context: PipelineContext, settings: MaintenanceSettings) -> None:
    """Once."""
    await context.store.write(
        lambda tx: replicas.record_heartbeat(tx, context.replica, __version__, ENGINE_VERSION, settings.role)
    )
    await check_recurrence(context)
    stuck = await context.store.read(
        lambda connection: stuck_runs.list_stuck(connection, context.clock.now() - STUCK_AFTER)
    )
    for run in stuck:
        await context.store.write(lambda tx, item=run: _stuck(tx, context, settings, item))  # type: ignore[misc]
    await context.store.write(lambda tx: _clear(tx, settings))


def _stuck(tx: Tx, context: PipelineContext, settings: MaintenanceSettings, run: Run) -> None:
    """Said once for each state that it is stuck in."""
    if not stuck_runs.mark_reported(tx, run):
        return
    known = run.engine_version <= ENGINE_VERSION
    why = "look into the logs" if known else f"it needs engine {run.engine_version}: start the newer version"
    text = f"run {run.id} of {run.playbook} on {run.target} does not move from {run.status}; {why}"
    log.error("a run is stuck", run=run.id, status=run.status.value, context=run.engine_version)
    channels = run.escalate_to or settings.channels
    outbox.enqueue(tx, context.ids, "notice", run, {"about": "stuck", "text": text}, channels)


def _clear(tx: Tx, settings: MaintenanceSettings) -> None:
    inbox.delete_processed(tx, tx.now - settings.keep)
    runs.close_orphaned_incidents(tx)


async def require_compatible_replicas(context: PipelineContext) -> None:
    """Replicas on one store, and what they left there, may be one engine version apart: so much is an upgrade, more is
    a mistake. On SQLite nobody else would go on with what a newer version began.

    Raises:
        StoreUnavailable: a living replica, or an open run, is further away.
    """
    others = await context.store.read(
        lambda connection: replicas.list_alive(connection, context.clock.now() - REPLICA_TIMEOUT)
    )
    for other in others:
        if abs(other.engine_version - ENGINE_VERSION) > 1:
            raise StoreUnavailable(
                f"replica {other.id} runs engine {other.engine_version} (version {other.version}), this is engine "
                f"{ENGINE_VERSION} (version {__version__}); they may be one apart: upgrade step by step"
            )
    furthest = ENGINE_VERSION + (context.store.name != "sqlite")
    for run in await context.store.read(stuck_runs.list_unsupported):
        if run.engine_version > furthest or run.engine_version <= ENGINE_VERSION:
            raise StoreUnavailable(
                f"run {run.id} of {run.playbook} on {run.target} is {run.status}, by engine {run.engine_version}; this "
                f"is engine {ENGINE_VERSION} and cannot go on with it: start the newer version, and let it finish there"
            )
