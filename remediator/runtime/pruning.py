"""Delete old history, so that the size of the database is bounded.

These are deleted: runs with all their rows, episodes, messages, stops, the memory of releases and remedies, and unused
playbook versions.

One replica at a time deletes small batches, each with an audit entry. It keeps old data that is still needed, such as
the data that guards read. If there is an audit archive, it keeps each run with entries that are not archived yet.
Figures that reports need later are kept in :mod:`remediator.storage.repositories.baselines`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import timedelta

from remediator.audit import Draft, Kind
from remediator.core import progress
from remediator.core.clock import rfc3339
from remediator.pipeline.context import PipelineContext
from remediator.pipeline.guard_evaluation import active_guards
from remediator.storage import Tx, advisory_locks
from remediator.storage.repositories import audit, cleanup, playbooks

BATCH_SIZE = 100
"""Most rows of each kind in one transaction: a few milliseconds, so that no other work waits long."""
POLL = 60.0
"""Seconds between two checks."""
PAUSE = 0.25
"""Seconds between two batches."""
_MARGIN = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class PruningSettings:
    """The history that is kept.

    Args:
        retention: how long ended runs are kept, and episodes, messages without a run, stops, the memory of releases and
            remedies, and playbook versions.
        sealed: delete only runs whose audit entries are all archived.
    """

    retention: timedelta = timedelta(days=365)
    sealed: bool = False


@dataclass(frozen=True, slots=True)
class PruneResult:
    """The number of deleted rows of one batch."""

    runs: int
    episodes: int
    messages: int
    stops: int
    memory: int
    versions: int


async def run_pruning_loop(
    context: PipelineContext, settings: PruningSettings, on_pruned: Callable[[Mapping[str, int]], None]
) -> None:
    """Delete old history, batch by batch; call ``on_pruned`` with the numbers of each batch."""
    while True:
        result = await prune(context, settings)
        if result is not None:
            on_pruned(asdict(result))
        progress.report(POLL)
        await context.clock.sleep(POLL if result is None else PAUSE)


async def prune(context: PipelineContext, settings: PruningSettings) -> PruneResult | None:
    """Delete one batch. Return None if there was nothing to delete, or if another replica deletes now."""
    retention = max(settings.retention, guard_lookback(context) + _MARGIN)

    def delete_batch(tx: Tx) -> PruneResult | None:
        advisory_locks.try_lock(tx.connection, advisory_locks.LOCK_PRUNE)
        before = tx.now - retention
        oldest = audit.oldest_time(tx.connection) if settings.sealed else None
        runs_before = before if oldest is None else min(before, oldest)
        ids = cleanup.delete_runs(tx, runs_before, BATCH_SIZE, sealed=settings.sealed)
        # A replica with other playbook files may have deleted these versions as unused.
        playbooks.add_versions(tx, context.playbooks.active)
        active = [playbook.content_hash for playbook in context.playbooks.active]
        result = PruneResult(
            len(ids),
            cleanup.delete_episodes(tx, before, BATCH_SIZE),
            cleanup.delete_messages(tx, before, BATCH_SIZE),
            cleanup.delete_stops(tx, before, BATCH_SIZE),
            cleanup.delete_memory(tx, before, BATCH_SIZE),
            cleanup.delete_playbook_versions(tx, before, BATCH_SIZE, active=active),
        )
        if not any(asdict(result).values()):
            return None
        data = {**asdict(result), "before": rfc3339(before), "ids": ids}
        tx.append_audit(Draft(kind=Kind.HISTORY_PRUNED, actor=context.actor, data=data))
        return result

    try:
        return await context.store.write(delete_batch)
    except advisory_locks.LockUnavailable:
        return None


def guard_lookback(context: PipelineContext) -> timedelta:
    """Return how far back the guards of the active playbooks look, at most."""
    found = (
        guard.lookback(own) for playbook in context.playbooks.active for guard, own in active_guards(context, playbook)
    )
    return max(found, default=timedelta(0))
