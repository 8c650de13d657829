"""Health: alive is not the same as ready, and not ready says what is missing."""

import sqlite3
from collections.abc import Awaitable, Callable

from pydantic import BaseModel
from redis.asyncio import Redis

from app.link import RedisLink, RedisUnavailableError
from app.records import Records


class Part(BaseModel):
    """One thing that the app needs; `detail` says why it is not there."""

    ok: bool
    detail: str | None = None


class Readiness(BaseModel):
    """Ready, or the names of what is missing."""

    ready: bool
    missing: list[str]
    parts: dict[str, Part]
    release: str


class Health:
    """Asks what the app depends on, each within its own timeout."""

    def __init__(self, link: RedisLink, records: Records, release: str) -> None:
        self._link = link
        self._records = records
        self._release = release

    async def readiness(self) -> Readiness:
        parts = {"redis": await _part(self._redis), "record": await _part(self._records.ping)}
        missing = [name for name, part in parts.items() if not part.ok]
        return Readiness(ready=not missing, missing=missing, parts=parts, release=self._release)

    async def _redis(self) -> None:
        if trouble := self._link.trouble:
            raise RedisUnavailableError("known", trouble)
        await self._link.call("ready", _write)


async def _part(look: Callable[[], Awaitable[None]]) -> Part:
    try:
        await look()
    except (RedisUnavailableError, sqlite3.Error) as error:
        return Part(ok=False, detail=str(error))
    return Part(ok=True)


async def _write(client: Redis) -> None:
    """A Redis whose disk or memory is full still answers PING: only a write shows it."""
    await client.set("app:ready", b"1", ex=60)
