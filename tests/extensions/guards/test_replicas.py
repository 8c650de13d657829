"""The counts of the guards are exact when many workers and replicas act at the same time."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from remediator.core.clock import SystemClock
from remediator.pipeline.ingest import IngestSettings
from remediator.pipeline.match import Index
from remediator.pipeline.run_context import with_intent_lock
from remediator.playbooks.model import Playbook
from remediator.runtime.worker import Worker
from remediator.storage import Store
from remediator.storage.postgres import PostgresStore
from remediator.storage.repositories import runs, stops
from remediator.storage.url import parse_postgresql_url
from tests.support.fleet import Begun, Health, begun, breaks, context, eventually, holding, overdrawn, remedy
from tests.support.servers import DEADLINE
from tests.support.stores import new_store

pytestmark = pytest.mark.promise(12)

GUARDS: dict[str, Any] = {
    "cooldown": "0s",
    "rate_limit": {"target": ["2/1h"], "playbook": ["4/1h"], "global": ["7/1h"]},
    "concurrency": {"global": 3, "playbook": 2},
    "ramp": [10],
}
REMEDIES = [remedy(name, GUARDS, verify={"settle": "20ms", "within": "100ms"}) for name in ("one", "two", "three")]


@asynccontextmanager
async def replicas(
    stores: Sequence[Store], playbooks: Sequence[Playbook], health: Health
) -> AsyncIterator[list[Worker]]:
    """Start one engine with its loop for each store."""
    loops = [
        Worker(
            context(store, SystemClock(), playbooks, health, f"replica-{number}"), Index([]), IngestSettings(), 16, 0.1
        )
        for number, store in enumerate(stores)
    ]
    tasks = [asyncio.create_task(each.run_advance_loop()) for each in loops]
    try:
        yield loops
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def three_on_postgres(url: str) -> AsyncIterator[list[PostgresStore]]:
    """Open three stores, one for each replica, on one database."""
    async with AsyncExitStack() as stack:
        stores = []
        for _ in range(3):
            stores.append(PostgresStore(parse_postgresql_url(url)))
            stack.push_async_callback(stores[-1].close)
        yield stores


async def storm(first: Worker) -> int:
    """Create thirty incidents at once, of three playbooks on ten targets; return their number."""
    number = 0
    for chosen in REMEDIES:
        for target in range(10):
            await breaks(first.context, chosen, f"web-{target}", number)
            number += 1
    return number


async def settled(store: Store) -> bool:
    """Return whether every run has finished, or waits for the rate limit."""
    found = await store.read(lambda connection: runs.list_page(connection, 100))
    return len(found) == 30 and all(
        run.finished_at is not None or (run.blocked_by == "rate_limit" and run.detail.guard_reason == "used_up")
        for run in found
    )


def assert_budgets_held(done: list[Begun]) -> None:
    assert len({item.run for item in done}) == 7  # the limit is reached and not exceeded
    assert overdrawn(done, lambda item: item.target, "2/1h") == []
    assert overdrawn(done, lambda item: item.playbook, "4/1h") == []
    assert overdrawn(done, lambda item: "", "7/1h") == []


async def test_many_workers_on_sqlite_exceed_no_limit(tmp_path: Path) -> None:
    """With thirty runs, sixteen workers and a limit of seven, seven runs act and the rate limit blocks the others."""
    store = new_store(tmp_path, SystemClock())
    busiest = 0
    health = Health()

    async def look() -> None:
        nonlocal busiest
        await asyncio.sleep(0.01)
        busiest = max(busiest, len(await holding(store)))

    health.before = look
    try:
        async with replicas([store], REMEDIES, health) as loops:
            await storm(loops[0])
            await eventually(lambda: settled(store))
            assert_budgets_held(await begun(store))
    finally:
        await store.close()
    assert 1 <= busiest <= 3


async def test_three_replicas_on_postgresql_exceed_no_limit(migrated_url: str) -> None:
    """The limit also holds for three replicas on one PostgreSQL, each with its own connections and workers."""
    health = Health()
    busiest = 0
    async with three_on_postgres(migrated_url) as stores:

        async def look() -> None:
            nonlocal busiest
            await asyncio.sleep(0.02)
            busiest = max(busiest, len(await holding(stores[0])))

        health.before = look
        async with replicas(stores, REMEDIES, health) as loops:
            await storm(loops[0])
            await eventually(lambda: settled(stores[0]))
            assert_budgets_held(await begun(stores[0]))
            owners = {run.lease_owner for run in await holding(stores[0])}
            assert owners <= {"replica-0", "replica-1", "replica-2"}
    assert 1 <= busiest <= 3


@pytest.mark.promise(10)
async def test_the_stop_button_works_on_every_replica(migrated_url: str) -> None:
    """After a stop at one replica, no replica starts an action; after the release, all runs continue."""
    unlimited = {"cooldown": "0s", "ramp": [10], "concurrency": {"global": 1, "playbook": 1}}
    budget = {"target": ["50/1h"], "playbook": ["500/1h"], "global": ["500/1h"]}
    many = remedy("many", {**unlimited, "rate_limit": budget}, verify={"settle": "10ms", "within": "50ms"})
    health = Health()
    async with three_on_postgres(migrated_url) as stores, replicas(stores, [many], health) as loops:
        for number in range(8):
            await breaks(loops[0].context, many, f"web-{number}", number)
        await eventually(lambda: _some_begun(stores[0], 2))

        await stores[1].write(lambda tx: stops.create(tx, "stop-1", "global", "", "test", "user:ann"))
        at_stop = len(await begun(stores[0]))
        await eventually(lambda: _nothing_held(stores[0]))
        await asyncio.sleep(1.0)
        assert len(await begun(stores[0])) == at_stop < 8

        await stores[2].write(lambda tx: stops.release(tx, "stop-1", "user:ann"))
        await eventually(lambda: _some_begun(stores[0], at_stop + 1))
        await eventually(lambda: _some_begun(stores[0], 8))


async def _some_begun(store: Store, count: int) -> bool:
    return len(await begun(store)) >= count


async def _nothing_held(store: Store) -> bool:
    return not await holding(store)


async def test_guards_wait_for_the_intent_of_another_replica(migrated_url: str) -> None:
    """While the intent of one replica is not committed, the guards of another replica wait, so they count it."""
    order: list[str] = []
    inside, leave = threading.Event(), threading.Event()

    def slow(tx: Any) -> None:
        inside.set()
        assert leave.wait(DEADLINE)
        order.append("first")

    async with three_on_postgres(migrated_url) as stores:
        engines = [context(store, SystemClock(), [], Health(), "any") for store in stores]
        first = asyncio.create_task(with_intent_lock(engines[0], slow))
        await asyncio.to_thread(inside.wait, 10)
        second = asyncio.create_task(with_intent_lock(engines[1], lambda tx: order.append("second")))
        other = asyncio.create_task(engines[2].store.write(lambda tx: order.append("no intent")))
        await other
        await asyncio.sleep(0.1)
        leave.set()
        await asyncio.gather(first, second)

    assert order == ["no intent", "first", "second"]


@pytest.mark.promise(10)
async def test_a_stop_waits_for_an_open_intent(migrated_url: str) -> None:
    """A stop waits until the open intent, whose guards have not seen the stop, is committed."""
    order: list[str] = []
    inside, leave = threading.Event(), threading.Event()

    def intent(tx: Any) -> None:
        assert stops.list_active(tx.connection, tx.now) == []
        inside.set()
        assert leave.wait(DEADLINE)
        order.append("intent")

    async with three_on_postgres(migrated_url) as stores:
        first = asyncio.create_task(with_intent_lock(context(stores[0], SystemClock(), [], Health(), "any"), intent))
        await asyncio.to_thread(inside.wait, 10)
        stop = asyncio.create_task(
            stores[1].write(lambda tx: stops.create(tx, "stop-1", "global", "", "test", "user:ann"))
        )
        stop.add_done_callback(lambda _: order.append("stop"))
        await asyncio.sleep(0.3)
        leave.set()
        await asyncio.gather(first, stop)

    assert order == ["intent", "stop"]


async def test_a_deadlock_between_replicas_loses_no_change(migrated_url: str) -> None:
    """Two replicas change the same two runs in opposite orders: PostgreSQL ends the deadlock, and both changes are
    written."""
    first_has, second_has = threading.Event(), threading.Event()

    def crossing(mine: str, other: str, have: threading.Event, wait_for: threading.Event) -> Any:
        def work(tx: Any) -> None:
            runs.notify(tx, [mine])
            have.set()
            wait_for.wait(5)
            runs.notify(tx, [other])

        return work

    async with three_on_postgres(migrated_url) as stores:
        engines = [context(store, SystemClock(), REMEDIES, Health(), "any") for store in stores]
        for number in (0, 1):
            await breaks(engines[0], REMEDIES[0], f"web-{number}", number)
        await asyncio.gather(
            stores[0].write(crossing("run-0", "run-1", first_has, second_has)),
            stores[1].write(crossing("run-1", "run-0", second_has, first_has)),
        )
        found = [
            await stores[2].read(lambda connection, key=key: runs.get(connection, key)) for key in ("run-0", "run-1")
        ]

    assert [run.wakeup_count for run in found] == [2, 2]
