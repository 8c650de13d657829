"""Forgetting what is over for long: runs with all that hangs on them, episodes, messages, released stops, versions of
playbooks that nothing runs by any more. The database stays bounded.

A little at a time, by one replica at a time, each time with an entry. What still means something stays, however old,
and so does what the guards look back at, and, where the audit log has an archive, every run whose entries are not all
sealed there. Figures that reports need later are kept
in :mod:`remediator.storage.repositories.baselines`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta

from remediator.audit import Draft, Kind
from remediator.core.clock import rfc3339
from remediator.pipeline.context import PipelineContext
from remediator.pipeline.guard_evaluation import active_guards
from remediator.storage import Tx, advisory_locks
from remediator.storage.repositories import audit, cleanup, playbooks

BATCH_SIZE = 100
"""Most of each kind that one transaction forgets: a few milliseconds, so nobody waits for it."""
LOOK = 60.0
"""Seconds between looks."""
REST = 0.25
"""Seconds between two batches, while there is more."""
_MARGIN = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class PruningSettings:
    """What is kept."""

    history: timedelta = timedelta(days=365)
    """How long runs that are over are kept, episodes, messages that are about no run, stops, playbooks' versions."""
    sealed: bool = False
    """Only runs whose entries have all left for the archive."""


@dataclass(frozen=True, slots=True)
class PruneResult:
    """What one batch has forgotten."""

    runs: int
    episodes: int
    messages: int
    stops: int
    versions: int


async def run_pruning_loop(
    context: PipelineContext, settings: PruningSettings, told: Callable[[Mapping[str, int]], None]
) -> None:
    """Forget what is due, batch by batch; ``told`` counts it."""
    while True:
        gone = await prune(context, settings)
        if gone is not None:
            told(asdict(gone))
        await context.clock.sleep(LOOK if gone is None else REST)


async def prune(context: PipelineContext, settings: PruningSettings) -> PruneResult | None:
    """Forget one batch; None if there was nothing, or another replica is at it."""
    history = max(settings.history, guard_lookback(context) + _MARGIN)
    try:
        return await context.store.write(lambda tx: _prune(tx, context, tx.now - history, sealed=settings.sealed))
    except advisory_locks.LockUnavailable:
        return None


def guard_lookback(context: PipelineContext) -> timedelta:
    """How far the guards of the playbooks in force look back, the farthest of them."""
    found = (
        guard.lookback(own) for playbook in context.playbooks.active for guard, own in active_guards(context, playbook)
    )
    return max(found, default=timedelta(0))


def _prune(tx: Tx, context: PipelineContext, before: datetime, *, sealed: bool) -> PruneResult | None:
    advisory_locks.try_lock(tx.connection, advisory_locks.LOCK_PRUNE)
    oldest = audit.oldest_time(tx.connection) if sealed else None
    over = before if oldest is None else min(before, oldest)
    ids = cleanup.delete_runs(tx, over, BATCH_SIZE, sealed=sealed)
    playbooks.add_versions(
        tx, context.playbooks.active
    )  # should a replica with other files have taken them for forgotten
    gone = PruneResult(
        len(ids),
        cleanup.delete_episodes(tx, before, BATCH_SIZE),
        cleanup.delete_messages(tx, before, BATCH_SIZE),
        cleanup.delete_stops(tx, before, BATCH_SIZE),
        cleanup.delete_playbook_versions(
            tx, before, BATCH_SIZE, in_force=[playbook.content_hash for playbook in context.playbooks.active]
        ),
    )
    if not any(asdict(gone).values()):
        return None
    data = {**asdict(gone), "before": rfc3339(before), "ids": ids}
    tx.append_audit(Draft(kind=Kind.HISTORY_PRUNED, actor=context.actor, data=data))
    return gone
