"""Health checks. Readiness names what is missing."""

import sqlite3
from collections.abc import Awaitable, Callable

from pydantic import BaseModel
from redis.asyncio import Redis

from app.link import RedisLink, RedisUnavailableError
from app.records import Records


class Part(BaseModel):
    """A dependency of the app. `detail` states why it is not available."""

    ok: bool
    detail: str | None = None


class Readiness(BaseModel):
    """Readiness, with the names of missing dependencies."""

    ready: bool
    missing: list[str]
    parts: dict[str, Part]
    release: str


class Health:
    """Check the dependencies, each with its own timeout."""

    def __init__(self, link: RedisLink, records: Records, release: str) -> None:
        self._link = link
        self._records = records
        self._release = release

    async def readiness(self) -> Readiness:
        parts = {"redis": await _part(self._redis), "record": await _part(self._records.ping)}
        missing = [name for name, part in parts.items() if not part.ok]
        return Readiness(ready=not missing, missing=missing, parts=parts, release=self._release)

    async def _redis(self) -> None:
        if problem := self._link.problem:
            raise RedisUnavailableError("known", problem)
        await self._link.call("ready", _write)


async def _part(check: Callable[[], Awaitable[None]]) -> Part:
    try:
        await check()
    except (RedisUnavailableError, sqlite3.Error) as error:
        return Part(ok=False, detail=str(error))
    return Part(ok=True)


async def _write(client: Redis) -> None:
    """Write a key: a Redis with a full disk or full memory still answers PING."""
    await client.set("app:ready", b"1", ex=60)
