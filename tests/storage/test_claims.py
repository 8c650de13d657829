"""Claims of several replicas and versions: runs of a newer version are not claimed, and a blocked run waits."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Connection, select, update

from remediator.core.run import ENGINE_VERSION, Run, Status
from remediator.core.run_detail import BlockedDetail
from remediator.errors import Fenced
from remediator.pipeline.ingest import IngestSettings, process_inbox
from remediator.pipeline.match import Index
from remediator.pipeline.receive import receive
from remediator.pipeline.stages import advance
from remediator.storage import Store
from remediator.storage.repositories import episodes, run_claims, run_transitions, runs, stuck_runs
from remediator.storage.schema import runs as table
from tests.storage.test_intake import context_on

MINUTE = timedelta(minutes=1)
NOW = datetime(2100, 1, 1, tzinfo=UTC)


async def claimed(store: Store, owner: str = "me", lease: timedelta = MINUTE) -> Run:
    """Create a run and claim it for an owner."""
    await store.write(lambda tx: runs.create(tx, "run-1", "p", "h", "t", "auto", "test"))
    [run] = await store.write(lambda tx: run_claims.claim_due(tx, owner, lease, 5))
    return run


@pytest.mark.promise(4)
async def test_a_run_of_a_newer_version_is_not_claimed(store: Store, connection: Connection) -> None:
    """Such a run is not claimed while it is open or finished, and is listed as one that this version cannot
    continue."""
    await store.write(lambda tx: runs.create(tx, "run-1", "p", "h", "t", "auto", "test"))
    connection.execute(update(table).values(engine_version=ENGINE_VERSION + 1))
    assert await store.write(lambda tx: run_claims.claim_due(tx, "me", MINUTE, 5)) == []
    assert await store.read(lambda connection: run_claims.next_wake_at(connection, NOW)) is None
    assert [run.id for run in await store.read(stuck_runs.list_unsupported)] == ["run-1"]
    connection.execute(update(table).values(status=Status.SUCCEEDED.value, finished_at=table.c.created_at))
    assert await store.write(lambda tx: run_claims.claim_finished(tx, "run-1", "me", MINUTE)) is None
    connection.execute(update(table).values(engine_version=ENGINE_VERSION))
    assert await store.write(lambda tx: run_claims.claim_finished(tx, "run-1", "me", MINUTE)) is not None


async def test_an_unknown_status_is_listed(store: Store, connection: Connection) -> None:
    """An unknown status is not an error: the run is kept, and listed as one that this version cannot continue."""
    await store.write(lambda tx: runs.create(tx, "run-1", "p", "h", "t", "auto", "test"))
    connection.execute(update(table).values(status="meditating"))
    [run] = await store.read(stuck_runs.list_unsupported)
    assert (run.id, str(run.status)) == ("run-1", "meditating")


@pytest.mark.promise(4)
async def test_an_expired_claim_writes_nothing(store: Store, connection: Connection) -> None:
    """After the lease, the owner of a run may not write to it, even if no other process has claimed it."""
    run = await claimed(store, lease=timedelta(microseconds=1))
    with pytest.raises(Fenced):
        await store.write(lambda tx: run_transitions.transition(tx, run, Status.BLOCKED, None, BlockedDetail(), "test"))
    with pytest.raises(Fenced):
        await store.write(lambda tx: run_claims.renew_lease(tx, run, MINUTE))
    assert connection.execute(select(table.c.status)).scalar_one() == Status.MATCHED.value


@pytest.mark.promise(4)
async def test_one_of_many_replicas_claims_a_run(store: Store) -> None:
    """Of fifty replicas, one claims the run with the next fence, and the first owner cannot write any more."""
    first = await claimed(store, "first", timedelta(microseconds=1))
    found = await asyncio.gather(
        *(store.write(lambda tx, n=n: run_claims.claim_due(tx, f"other-{n}", MINUTE, 5)) for n in range(50))  # type: ignore[misc]
    )
    [[second]] = [claim for claim in found if claim]
    assert second.fence == first.fence + 1
    with pytest.raises(Fenced):
        await store.write(lambda tx: run_claims.release(tx, first, None, first.wakeup_count))


async def test_a_blocked_run_waits_before_its_next_evaluation(store: Store) -> None:
    """The alerts are resolved but their episodes are still open: the run waits for the next evaluation and does not
    loop."""
    context = context_on(store)
    settings, index = IngestSettings(resolve_grace=timedelta(microseconds=1)), Index((), "Watchdog")
    await receive(store, told("firing"))
    await process_inbox(context, index, settings)
    run = await claimed(store)
    await store.write(lambda tx: runs.add_episodes(tx, run.id, episodes.list_open(tx.connection)))
    await receive(store, told("resolved"))
    await process_inbox(context, index, settings)

    held = await advance(context, run)
    assert held.waits and (held.run.status, held.run.reason) == (Status.BLOCKED, "resolved")
    before = context.clock.now()
    again = await advance(context, held.run)
    assert again.waits and again.until is not None and again.until >= before + context.timeouts.guard_recheck_interval


def told(status: str) -> bytes:
    """Return a notification of the only alert."""
    alert = {
        "status": status,
        "labels": {"alertname": "Down"},
        "startsAt": "2026-01-01T00:00:00Z",
        "endsAt": "0001-01-01T00:00:00Z" if status == "firing" else "2026-01-01T00:01:00Z",
    }
    return json.dumps({"version": "4", "receiver": "r", "alerts": [alert]}).encode()
