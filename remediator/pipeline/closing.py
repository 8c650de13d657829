"""Close the episodes whose resolve grace is over, and the incidents that end with them."""

from __future__ import annotations

from remediator.audit import Draft, Kind
from remediator.core import episode as episode_rules
from remediator.core.run import EpisodeStatus
from remediator.pipeline.context import PipelineContext
from remediator.storage import Tx
from remediator.storage.repositories import episodes, outbox, runs


async def close_due_episodes(context: PipelineContext) -> int:
    """Close the episodes whose resolve grace is over, and the incidents that end with them; returns their number."""

    def close(tx: Tx) -> int:
        due = episodes.list_due_to_close(tx.connection, tx.now)
        if not due:
            return 0
        closed = [episode_rules.close(item) for item in due]
        episodes.update_all(tx, closed)
        for item in closed:
            data = {"alertname": item.alertname}
            tx.append_audit(Draft(kind=Kind.EPISODE_CLOSED, actor=context.actor, episode=item.id, data=data))
        concerned = episodes.run_ids_by_episode(tx.connection, [item.id for item in closed])
        for run_id in sorted({run_id for ids in concerned.values() for run_id in ids}):
            _close_incident(tx, run_id)
        return len(due)

    return await context.store.write(close)


def _close_incident(tx: Tx, run_id: str) -> None:
    run = runs.get(tx.connection, run_id, lock=True)
    if run is None or any(
        item.status is not EpisodeStatus.CLOSED for item in episodes.list_for_run(tx.connection, run_id)
    ):
        return
    if run.finished_at is None:
        runs.notify(tx, [run_id])
    else:
        runs.close_incident(tx, [run_id])
        outbox.enqueue_incident_update(tx, run, "over")
