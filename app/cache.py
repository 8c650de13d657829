"""The read-through cache of items in Redis, safe against stampedes and against writes that race with reads.

A miss takes a *lease*, in the same script that found nothing. Who holds the lease loads from the record; all others
wait for it, those of the same worker on its task, those of other workers by looking again after a jittered pause. A
write deletes copy and lease together, and a copy is only stored under the lease that it was loaded under. So what was
read before a write can never be stored after it.
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
PAUSES = (0.01, 0.02, 0.04, 0.08, 0.15, 0.2)  # seconds, before jitter: what a reader waits for another worker's load
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
    """An item, or None where there is none, and what the cache had to do with it."""

    item: Item | None
    result: Result


class Look(NamedTuple):
    copy: bytes | None
    leased: bool


class Cache:
    """One per worker."""

    def __init__(self, link: RedisLink, ttl: float, metrics: Metrics) -> None:
        self._link = link
        self._ttl = ttl
        self._metrics = metrics
        self._flights: dict[int, asyncio.Task[Item | None]] = {}

    async def read(self, item_id: int, load: Load) -> Answer:
        """The item from the cache, else by `load`, once for all who miss it together. Never fails for want of Redis."""
        try:
            answer = await self._read(item_id, load)
        except RedisUnavailableError:
            answer = Answer(await load(), "bypass")
        except ValidationError:  # a copy that is not ours, or that another release made
            await self._drop(item_id)
            answer = Answer(await load(), "bypass")
        self._metrics.cache_requests.labels(answer.result).inc()
        return answer

    async def invalidate(self, item_ids: Iterable[int], *, knock: bool = False) -> None:
        """Drops copies and leases. Raises RedisUnavailableError: then they may still be there."""
        keys = [key for item_id in item_ids for key in _keys(item_id)]
        await self._link.call("invalidate", lambda client: _delete(client, keys), knock=knock)

    async def _read(self, item_id: int, load: Load) -> Answer:
        result: Result = "hit"
        for pause in PAUSES:
            token = secrets.token_hex(8)
            look = await self._look(item_id, token)
            if look.copy is not None:
                return Answer(_decode(look.copy), result)
            result = "miss"
            if look.leased:
                return Answer(await self._lead(item_id, token, load), result)
            if flight := self._flights.get(item_id):
                return Answer(await asyncio.shield(flight), result)
            await asyncio.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 (jitter, not a secret)
        if flight := self._flights.get(item_id):  # our own reader got the lease while this one paused
            return Answer(await asyncio.shield(flight), result)
        return Answer(await load(), result)  # the holder of the lease is too slow, or has died

    async def _lead(self, item_id: int, token: str, load: Load) -> Item | None:
        """Loads as a task of its own: those who wait for it do not fail when the first reader goes away."""
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
            # Before the copy is stored: who comes later may know of a write that this load did not see.
            if self._flights.get(item_id) is asyncio.current_task():
                del self._flights[item_id]
        if await self._fill(item_id, token, item):
            return item
        return await load()  # a write came between: those who wait may have seen it acknowledged

    async def _look(self, item_id: int, token: str) -> Look:
        keys = _keys(item_id)
        args: list[str | bytes | int] = [token, LEASE_MS]
        copy, leased = await self._link.call("get", lambda client: client.register_script(LOOK)(keys, args))
        return Look(copy, bool(leased))

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
            return  # copy and lease end by themselves


def _keys(item_id: int) -> list[str]:
    return [f"item:{item_id}", f"lease:item:{item_id}"]


async def _delete(client: Redis, keys: list[str]) -> None:
    await client.unlink(*keys)


def _decode(copy: bytes) -> Item | None:
    return None if copy == ABSENT else Item.model_validate_json(copy)
