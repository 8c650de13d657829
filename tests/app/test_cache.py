"""The cache never returns old data, and concurrent misses cause one load from the record."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.items import Item, ItemDraft
from tests.app.conftest import LocalApp, connect, running_app, settings_for
from tests.support.servers import DEADLINE
from tests.support.servers.redis import Redis

DRAFT = ItemDraft(name="new", price_cents=2)


@pytest.fixture
async def two_workers(redis_server: Redis, tmp_path: Path) -> AsyncIterator[tuple[LocalApp, LocalApp]]:
    settings = settings_for(redis_server, tmp_path)
    async with running_app(settings) as first, running_app(settings) as second:
        yield first, second


class SlowLoad:
    """A load from the record that has read its row and then waits for `go`."""

    def __init__(self, app: LocalApp, item_id: int) -> None:
        self._app = app
        self._item_id = item_id
        self.has_read = asyncio.Event()
        self.go = asyncio.Event()
        self.times = 0

    async def __call__(self) -> Item | None:
        self.times += 1
        item = await self._app.parts.records.get(self._item_id)
        self.has_read.set()
        await self.go.wait()
        return item


async def test_second_read_is_a_hit(local_app: LocalApp) -> None:
    """The first read of an item is a miss and the second a hit. Both are counted."""
    item_id = await local_app.new_item()
    assert [await local_app.cached(item_id), await local_app.cached(item_id)] == ["miss", "hit"]
    assert local_app.figure("cache_requests_total", result="hit") == 1
    assert local_app.figure("cache_requests_total", result="miss") == 1


async def test_fifty_misses_load_once(local_app: LocalApp) -> None:
    """Fifty concurrent misses of one item cause one load from the record."""
    item_id = await local_app.new_item()
    answers = await asyncio.gather(*(local_app.client.get(f"/items/{item_id}") for _ in range(50)))
    assert {answer.status_code for answer in answers} == {200}
    assert {answer.json()["id"] for answer in answers} == {item_id}
    assert local_app.figure("record_loads_total") == 1


async def test_fifty_misses_of_two_workers_load_once(two_workers: tuple[LocalApp, LocalApp]) -> None:
    """Fifty concurrent misses at two workers still cause one load: the lease in Redis holds for all workers."""
    first, second = two_workers
    item_id = await first.new_item()
    reads = [worker.client.get(f"/items/{item_id}") for worker in two_workers for _ in range(25)]
    assert {answer.status_code for answer in await asyncio.gather(*reads)} == {200}
    assert first.figure("record_loads_total") + second.figure("record_loads_total") == 1


async def test_write_and_delete_invalidate(two_workers: tuple[LocalApp, LocalApp]) -> None:
    """After a write or a delete is acknowledged, no worker shows the old item."""
    first, second = two_workers
    item_id = await first.new_item("old")
    assert await second.cached(item_id) == "miss"
    assert await second.cached(item_id) == "hit"
    await first.client.put(f"/items/{item_id}", json={"name": "new", "price_cents": 2})
    assert (await second.client.get(f"/items/{item_id}")).json()["name"] == "new"
    assert (await first.client.delete(f"/items/{item_id}")).status_code == 204
    assert (await second.client.get(f"/items/{item_id}")).status_code == 404


async def test_read_before_a_write_is_not_stored_after_it(two_workers: tuple[LocalApp, LocalApp]) -> None:
    """A reader that read the old row before a write does not put it into the cache after the write."""
    reader, writer = two_workers
    item_id = await reader.new_item("old")
    slow = SlowLoad(reader, item_id)
    read = asyncio.create_task(reader.parts.cache.read(item_id, slow))
    await slow.has_read.wait()
    await writer.client.put(f"/items/{item_id}", json={"name": "new", "price_cents": 2})
    slow.go.set()
    answer = await read
    assert answer.item is not None and answer.item.name == "new"
    assert (await writer.client.get(f"/items/{item_id}")).json()["name"] == "new"
    assert (await reader.client.get(f"/items/{item_id}")).json()["name"] == "new"


async def test_reader_that_joins_a_load_sees_the_write_before_it(two_workers: tuple[LocalApp, LocalApp]) -> None:
    """A read after an acknowledged write returns the written item, even while an older load is running."""
    reader, writer = two_workers
    item_id = await reader.new_item("old")
    slow = SlowLoad(reader, item_id)
    early = asyncio.create_task(reader.parts.cache.read(item_id, slow))
    await slow.has_read.wait()
    await writer.parts.catalogue.update(item_id, DRAFT)
    late = asyncio.create_task(reader.client.get(f"/items/{item_id}"))
    assert (await late).json()["name"] == "new"
    slow.go.set()
    await early


async def test_a_disconnected_reader_does_not_fail_the_others(local_app: LocalApp) -> None:
    """If the first reader disconnects, its load continues and the second reader gets the answer."""
    item_id = await local_app.new_item()
    slow = SlowLoad(local_app, item_id)
    first = asyncio.create_task(local_app.parts.cache.read(item_id, slow))
    await slow.has_read.wait()
    second = asyncio.create_task(local_app.parts.cache.read(item_id, slow))
    first.cancel()
    slow.go.set()
    answer = await second
    assert answer.item is not None and answer.item.id == item_id
    assert slow.times == 1


async def test_no_read_returns_an_old_version(two_workers: tuple[LocalApp, LocalApp]) -> None:
    """During many reads and writes at two workers, no read returns a version older than an acknowledged one."""
    item_id = await two_workers[0].new_item()
    acknowledged = 1

    async def write() -> None:
        nonlocal acknowledged
        for turn in range(150):
            item = await two_workers[turn % 2].parts.catalogue.update(item_id, DRAFT)
            assert item is not None
            acknowledged = item.version

    async def read(worker: LocalApp) -> set[str]:
        results: set[str] = set()
        while not writing.done():
            known = acknowledged
            item, result = await worker.parts.catalogue.get(item_id)
            assert item is not None and item.version >= known
            results.add(result)
        return results

    writing = asyncio.create_task(write())
    seen = await asyncio.gather(*(read(worker) for worker in two_workers for _ in range(4)))
    await writing
    assert set().union(*seen) == {"hit", "miss"}


async def test_readers_of_one_worker_wait_for_its_load(
    local_app: LocalApp, redis_server: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All readers of a worker wait for its load, however long it takes, and start no second load."""
    monkeypatch.setattr("app.cache.PAUSES", (0.5,))
    item_id = await local_app.new_item()
    slow = SlowLoad(local_app, item_id)
    reads = [asyncio.create_task(local_app.parts.cache.read(item_id, slow)) for _ in range(20)]
    with connect(redis_server) as client:
        async with asyncio.timeout(DEADLINE):
            while client.info("commandstats").get("cmdstat_evalsha", {"calls": 0})["calls"] < len(reads):
                await asyncio.sleep(0.01)
    await asyncio.sleep(1)  # longer than every pause of a reader
    slow.go.set()
    assert {answer.result for answer in await asyncio.gather(*reads)} == {"miss"}
    assert slow.times == 1


async def test_the_wait_for_a_dead_lease_holder_is_limited(local_app: LocalApp, redis_server: Redis) -> None:
    """If the holder of a lease has died, a reader waits for a limited time and gets no error."""
    item_id = await local_app.new_item()
    with connect(redis_server) as client:
        client.set(f"lease:item:{item_id}", "of a worker that died", px=60_000)
    async with asyncio.timeout(40):
        assert (await local_app.client.get(f"/items/{item_id}")).json()["id"] == item_id


async def test_a_failed_load_releases_its_lease(local_app: LocalApp, redis_server: Redis) -> None:
    """If a load fails, the reader gets the error, and the next reader does not wait for the lease."""
    item_id = await local_app.new_item()

    async def fail() -> Item | None:
        raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        await local_app.parts.cache.read(item_id, fail)
    with connect(redis_server) as client:
        assert not client.exists(f"lease:item:{item_id}")


async def test_copy_ends_with_its_ttl(local_app: LocalApp, redis_server: Redis) -> None:
    """A copy expires a little before SHOP_CACHE_TTL, so that copies made together do not expire together."""
    item_id = await local_app.new_item()
    await local_app.cached(item_id)
    with connect(redis_server) as client:
        left = client.pttl(f"item:{item_id}")
    assert 0.85 * 60_000 < left <= 60_000


async def test_absence_is_cached_until_the_item_is_made(local_app: LocalApp) -> None:
    """The absence of an item is cached until the item is created."""
    assert [await local_app.cached(1), await local_app.cached(1)] == ["miss", "hit"]
    assert await local_app.new_item() == 1
    assert (await local_app.client.get("/items/1")).status_code == 200


async def test_an_invalid_copy_in_the_cache_is_deleted(local_app: LocalApp, redis_server: Redis) -> None:
    """The app deletes an invalid copy and answers from the record."""
    item_id = await local_app.new_item()
    with connect(redis_server) as client:
        client.set(f"item:{item_id}", b"\xff{")
    assert [await local_app.cached(item_id) for _ in range(3)] == ["bypass", "miss", "hit"]
