"""The read-through cache of items in Redis. It prevents stampedes, and races between reads and writes.

A miss takes a *lease* in the same script. The holder of the lease loads the item from the record. All other readers
wait: those of the same worker for the holder's task, those of other workers by polling with jitter. A write deletes
copy and lease together, and a copy is stored only under the lease that it was loaded with. Therefore, data read before
a write is never stored after it.
"""

import asyncio
import random
import secrets
from collections.abc import Awaitable, Callable, Iterable
from typing import Literal, NamedTuple

from pydantic import ValidationError
from redis.asyncio import Redis

from app.items import Item
from app.link import RedisLink, RedisUnavailableError
from app.metrics import Metrics

Result = Literal["hit", "miss", "bypass"]
Load = Callable[[], Awaitable[Item | None]]

LEASE_MS = 3000
PAUSES = (0.01, 0.02, 0.04, 0.08, 0.15, 0.2)  # seconds, without jitter: polling intervals while another worker loads
TTL_JITTER = 0.1
ABSENT = b"absent"
ABSENT_TTL = 5.0
LOOK = """
local copy = redis.call('GET', KEYS[1])
if copy then return {copy, 0} end
if redis.call('SET', KEYS[2], ARGV[1], 'NX', 'PX', ARGV[2]) then return {false, 1} end
return {false, 0}
"""
FILL = """
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
redis.call('DEL', KEYS[2])
return 1
"""


class Answer(NamedTuple):
    """An item (None if it does not exist), and what the cache did."""

    item: Item | None
    result: Result


class Lookup(NamedTuple):
    """The cached copy, if there is one, and whether this reader got the lease."""

    copy: bytes | None
    leased: bool


class Cache:
    """The cache; one per worker."""

    def __init__(self, link: RedisLink, ttl: float, metrics: Metrics) -> None:
        self._link = link
        self._ttl = ttl
        self._metrics = metrics
        self._flights: dict[int, asyncio.Task[Item | None]] = {}

    async def read(self, item_id: int, load: Load) -> Answer:
        """Return the item from the cache or by `load`. Concurrent misses share one load. Works without Redis."""
        try:
            answer = await self._read(item_id, load)
        except RedisUnavailableError:
            answer = Answer(await load(), "bypass")
        except ValidationError:  # the copy was written by something else, or by another release
            await self._drop(item_id)
            answer = Answer(await load(), "bypass")
        self._metrics.cache_requests.labels(answer.result).inc()
        return answer

    async def invalidate(self, item_ids: Iterable[int], *, probe: bool = False) -> None:
        """Delete copies and leases. Raise RedisUnavailableError if they may still exist."""
        keys = [key for item_id in item_ids for key in _keys(item_id)]
        await self._link.call("invalidate", lambda client: _delete(client, keys), probe=probe)

    async def _read(self, item_id: int, load: Load) -> Answer:
        result: Result = "hit"
        for pause in PAUSES:
            token = secrets.token_hex(8)
            lookup = await self._look_up(item_id, token)
            if lookup.copy is not None:
                return Answer(_decode(lookup.copy), result)
            result = "miss"
            if lookup.leased:
                return Answer(await self._load_for_all(item_id, token, load), result)
            if flight := self._flights.get(item_id):
                return Answer(await asyncio.shield(flight), result)
            await asyncio.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 (jitter, not a secret)
        if flight := self._flights.get(item_id):  # a reader of this worker got the lease during the pause
            return Answer(await asyncio.shield(flight), result)
        return Answer(await load(), result)  # the holder of the lease is too slow or has died

    async def _load_for_all(self, item_id: int, token: str, load: Load) -> Item | None:
        """Load in a separate task, so that waiting readers get the item even if the first reader disconnects."""
        flight = asyncio.create_task(self._load_and_fill(item_id, token, load))
        self._flights[item_id] = flight
        return await asyncio.shield(flight)

    async def _load_and_fill(self, item_id: int, token: str, load: Load) -> Item | None:
        try:
            item = await load()
        except Exception:
            await self._drop(item_id)
            raise
        finally:
            # Remove the task before storing the copy: later readers may know of a write that this load did not see.
            if self._flights.get(item_id) is asyncio.current_task():
                del self._flights[item_id]
        if await self._fill(item_id, token, item):
            return item
        return await load()  # a write happened in between, and waiting readers may have seen its acknowledgement

    async def _look_up(self, item_id: int, token: str) -> Lookup:
        keys = _keys(item_id)
        args: list[str | bytes | int] = [token, LEASE_MS]
        copy, leased = await self._link.call("get", lambda client: client.register_script(LOOK)(keys, args))
        return Lookup(copy, bool(leased))

    async def _fill(self, item_id: int, token: str, item: Item | None) -> bool:
        copy, ttl = (item.model_dump_json().encode(), self._ttl) if item else (ABSENT, min(ABSENT_TTL, self._ttl))
        milliseconds = max(1, round(ttl * 1000 * (1 - TTL_JITTER * random.random())))  # noqa: S311
        keys = _keys(item_id)
        args: list[str | bytes | int] = [token, copy, milliseconds]
        try:
            return bool(await self._link.call("set", lambda client: client.register_script(FILL)(keys, args)))
        except RedisUnavailableError:
            return False

    async def _drop(self, item_id: int) -> None:
        try:
            await self.invalidate([item_id])
        except RedisUnavailableError:
            return  # copy and lease expire


def _keys(item_id: int) -> list[str]:
    return [f"item:{item_id}", f"lease:item:{item_id}"]


async def _delete(client: Redis, keys: list[str]) -> None:
    await client.unlink(*keys)


def _decode(copy: bytes) -> Item | None:
    return None if copy == ABSENT else Item.model_validate_json(copy)
