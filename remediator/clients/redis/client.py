"""Redis: what it tells about itself, and the few commands that a remedy may send it.

There is no way to send any other command: no KEYS, FLUSHALL, DEBUG, MONITOR, SHUTDOWN or EVAL. ACLs cannot limit
which parameters CONFIG SET may change, so the lists of those are here.
"""

from __future__ import annotations

import heapq
import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from remediator.clients.redis import models as facts
from remediator.clients.redis.connection import (
    RedisBadAnswer,
    RedisConnection,
    RedisEndpoint,
    RedisRefused,
    RedisState,
    RedisTimedOut,
    RedisUnreachable,
    text,
)
from remediator.clients.redis.models import BigKey, BigKeys, Client, Info, LatencyEvent, Role, SlowCommand
from remediator.clients.redis.sentinel import connected
from remediator.errors import InputError, TargetError

WRITABLE = frozenset(
    {
        "activedefrag",
        "appendfsync",
        "appendonly",
        "auto-aof-rewrite-min-size",
        "auto-aof-rewrite-percentage",
        "latency-monitor-threshold",
        "maxclients",
        "maxmemory",
        "maxmemory-policy",
        "maxmemory-samples",
        "no-appendfsync-on-rewrite",
        "save",
        "slowlog-log-slower-than",
        "slowlog-max-len",
        "stop-writes-on-bgsave-error",
        "tcp-keepalive",
        "timeout",
    }
)
"""What CONFIG SET may change; each can be set back to its old value."""

READABLE = WRITABLE | {
    "appenddirname",
    "appendfilename",
    "databases",
    "dbfilename",
    "dir",
    "min-replicas-to-write",
    "rdbcompression",
    "replica-read-only",
    "replica-serve-stale-data",
}
"""What CONFIG GET may read: no passwords, no keys."""

_TEST_PREFIX = "remediator:write-test:"
_TEST_LIFE = 10_000  # milliseconds after which a test key that was not deleted goes by itself
_SCAN_COUNT = 200


@dataclass(frozen=True, slots=True)
class Health:
    """How it serves; ``latency`` is that of a PING, when it answered one."""

    state: RedisState
    detail: str
    version: str = ""
    role: str = ""
    latency: timedelta | None = None

    @property
    def ok(self) -> bool:
        """Whether it answers; not whether it accepts writes, which only a write test tells."""
        return self.state is RedisState.SERVING


@dataclass(frozen=True, slots=True)
class ConfigChange:
    """A parameter, what it was and what it is now. A restart forgets it unless CONFIG REWRITE follows."""

    name: str
    old: str
    new: str


class Redis:
    """One Redis. Every call makes a connection of its own and closes it, so that a restart cannot confuse it.

    Raises, from every method:
        RedisUnreachable, RedisTimedOut, RedisRefused, RedisBadAnswer: each with its ``state``.

    Methods that change something take ``expected``, a run id from `run_id`: if the server was restarted since, they
    raise `TargetError` and change nothing.
    """

    def __init__(self, endpoint: RedisEndpoint) -> None:
        self.endpoint = endpoint

    async def health(self) -> Health:
        """How it serves. Does not raise: whatever is wrong is the answer."""
        try:
            async with connected(self.endpoint) as link:
                latency = await _ping(link)
                greeting = link.greeting
        except (RedisUnreachable, RedisTimedOut, RedisRefused, RedisBadAnswer) as error:
            return Health(error.state, str(error))
        return Health(RedisState.SERVING, "answers", greeting.version, greeting.role, latency)

    async def ping(self) -> timedelta:
        """How long a PING took, on a connection that was open."""
        async with connected(self.endpoint) as link:
            return await _ping(link)

    async def info(self, *sections: str) -> Info:
        """The fields of these sections, or of the default ones."""
        async with connected(self.endpoint) as link:
            return await _info(link, *sections)

    async def run_id(self) -> str:
        """Which incarnation of the server this is; another start has another."""
        return (await self.info("server")).text("run_id")

    async def role(self) -> Role:
        """Whether it is a master, and of whom it is a replica otherwise."""
        async with connected(self.endpoint) as link:
            return facts.role(await link.ask("ROLE"))

    async def config_get(self, name: str) -> str:
        """A parameter of `READABLE`.

        Raises:
            InputError: it is not one of those.
        """
        _allowed(name, READABLE, "GET")
        async with connected(self.endpoint) as link:
            return await _config(link, name)

    async def config_set(self, name: str, value: str, *, expected: str | None = None) -> ConfigChange:
        """Set a parameter of `WRITABLE` until the next restart, and tell what it was.

        Raises:
            InputError: it is not one of those.
        """
        _allowed(name, WRITABLE, "SET")
        async with connected(self.endpoint) as link:
            await _check(link, expected)
            old = await _config(link, name)
            await link.tell("CONFIG", "SET", name, value)
            return ConfigChange(name, old, await _config(link, name))

    async def config_rewrite(self, *, expected: str | None = None) -> None:
        """Write what is set now into the server's own configuration file."""
        await self._tell("CONFIG", "REWRITE", expected=expected)

    async def bgsave(self, *, expected: str | None = None) -> str:
        """Begin to write a snapshot. The reply is no proof: see INFO persistence for whether it succeeded."""
        return text(await self._tell("BGSAVE", expected=expected))

    async def bgrewriteaof(self, *, expected: str | None = None) -> str:
        """Begin to rewrite the append-only file, or put it in line behind a snapshot; the reply says which.

        The reply is no proof that it succeeded: see INFO persistence.
        """
        return text(await self._tell("BGREWRITEAOF", expected=expected))

    async def lastsave(self) -> datetime:
        """When the last snapshot succeeded; the server's start if none has."""
        async with connected(self.endpoint) as link:
            return facts.instant(await link.ask("LASTSAVE"))

    async def memory_purge(self, *, expected: str | None = None) -> None:
        """Give memory that was freed back to the system."""
        await self._tell("MEMORY", "PURGE", expected=expected)

    async def memory_usage(self, key: str) -> int | None:
        """The bytes that a key takes, estimated from samples of it; None without such a key."""
        async with connected(self.endpoint) as link:
            reply = await link.ask("MEMORY", "USAGE", key)
        return None if reply is None else int(reply)

    async def big_keys(
        self, *, limit: int = 10_000, top: int = 10, within: timedelta = timedelta(seconds=5)
    ) -> BigKeys:
        """The biggest keys among the first ``limit`` that SCAN shows, or as many as it looks at in that time."""
        async with connected(self.endpoint) as link:
            return await _big_keys(link, limit, top, time.monotonic() + within.total_seconds())

    async def slowlog(self, count: int = 25) -> tuple[SlowCommand, ...]:
        """The latest slow commands, newest first."""
        async with connected(self.endpoint) as link:
            return facts.slow_commands(await link.ask("SLOWLOG", "GET", count))

    async def latency(self) -> tuple[LatencyEvent, ...]:
        """What the latency monitor has seen; nothing while latency-monitor-threshold is 0."""
        async with connected(self.endpoint) as link:
            return facts.latency_events(await link.ask("LATENCY", "LATEST"))

    async def clients(self) -> tuple[Client, ...]:
        """Every connection, ours among them."""
        async with connected(self.endpoint) as link:
            return facts.clients(await link.ask("CLIENT", "LIST"))

    async def kill_client(self, client_id: int, *, expected: str | None = None) -> bool:
        """Close one connection; False if there was none with that id (ids are never used again)."""
        return bool(await self._tell("CLIENT", "KILL", "ID", client_id, expected=expected))

    async def write_test(self, token: str) -> timedelta:
        """Prove that a value can be written, read back and deleted; how long that took.

        The key is our own, is never one that exists, and expires by itself if the deletion does not come through.

        Args:
            token: makes the key unique, such as the run's id.

        Raises:
            RedisRefused: with the state that explains it (read-only, out of memory, cannot persist, …).
            RedisBadAnswer: what was read is not what was written.
        """
        key = _TEST_PREFIX + token
        async with connected(self.endpoint) as link:
            begun = time.monotonic()
            if await link.tell("SET", key, token, "NX", "PX", _TEST_LIFE) is None:
                raise RedisBadAnswer(f"{link.name} has a key {key} already")
            found = await link.ask("GET", key)
            deleted = await link.tell("DEL", key)
        if found != token.encode() or deleted != 1:
            raise RedisBadAnswer(f"{link.name} did not give back what was written to it")
        return timedelta(seconds=time.monotonic() - begun)

    async def _tell(self, *command: str | int, expected: str | None) -> Any:
        async with connected(self.endpoint) as link:
            await _check(link, expected)
            return await link.tell(*command)


async def _ping(link: RedisConnection) -> timedelta:
    begun = time.monotonic()
    if await link.ask("PING") != b"PONG":
        raise RedisBadAnswer(f"{link.name} did not answer PING with PONG")
    return timedelta(seconds=time.monotonic() - begun)


async def _info(link: RedisConnection, *sections: str) -> Info:
    return facts.info(await link.ask("INFO", *sections))


async def _check(link: RedisConnection, expected: str | None) -> None:
    if expected is not None and (await _info(link, "server")).text("run_id") != expected:
        raise TargetError(
            f"{link.name} was restarted since the plan was made, or another one is the master by now; "
            "nothing was changed"
        )


async def _config(link: RedisConnection, name: str) -> str:
    reply = await link.ask("CONFIG", "GET", name)
    if not isinstance(reply, list) or len(reply) != 2:
        raise RedisRefused(f"{link.name} has no parameter {name}", RedisState.REFUSING)
    return text(reply[1])


def _allowed(name: str, names: frozenset[str], verb: str) -> None:
    if name not in names:
        raise InputError(f"CONFIG {verb} {name!r} is not allowed; allowed are {', '.join(sorted(names))}")


async def _big_keys(link: RedisConnection, limit: int, top: int, deadline: float) -> BigKeys:
    biggest: list[tuple[int, bytes]] = []
    scanned, cursor = 0, b"0"
    while True:
        reply = await link.ask("SCAN", cursor, "COUNT", min(_SCAN_COUNT, max(limit - scanned, 1)))
        cursor, keys = reply
        sizes = await link.ask_each(("MEMORY", "USAGE", key) for key in keys)
        scanned += len(keys)
        found = [(size, key) for size, key in zip(sizes, keys, strict=True) if size is not None]
        biggest = heapq.nlargest(top, biggest + found)
        if cursor == b"0" or scanned >= limit or time.monotonic() >= deadline:
            return BigKeys(tuple(BigKey(facts.shown(key), size) for size, key in biggest), scanned, cursor == b"0")
