"""Redis client: diagnosis, and the few commands that a remedy may send.

Other commands cannot be sent: no KEYS, FLUSHALL, DEBUG, MONITOR, SHUTDOWN or EVAL. Redis ACLs cannot limit the
parameters of CONFIG SET, so this module lists the allowed ones.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
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
"""Parameters that CONFIG SET may change. Each can be set back to its old value."""

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
"""Parameters that CONFIG GET may read: no passwords, no keys."""

_TEST_PREFIX = "remediator:write-test:"
_TEST_LIFE = 10_000  # milliseconds after which a test key that was not deleted expires
_SCAN_COUNT = 200


@dataclass(frozen=True, slots=True)
class Health:
    """State of the server. ``latency`` is the time of a PING, if it was answered."""

    state: RedisState
    detail: str
    version: str = ""
    role: str = ""
    latency: timedelta | None = None
    address: str = ""
    """Host and port, or the socket, of the server that answered: with Sentinels, the current master."""
    loaded_percent: float | None = None
    """Part of the data set that is loaded, while it loads."""
    loading_eta: timedelta | None = None
    """Time until it has loaded, as Redis estimates it."""

    @property
    def ok(self) -> bool:
        """Whether it answers. Only `Redis.write_test` shows whether it accepts writes."""
        return self.state is RedisState.SERVING


@dataclass(frozen=True, slots=True)
class ConfigChange:
    """A parameter with its old and new value. A restart loses the change unless CONFIG REWRITE follows."""

    name: str
    old: str
    new: str


class Redis:
    """A client of one Redis server. Every call opens and closes its own connection, so a restart does no harm.

    Every method raises RedisUnreachable, RedisTimedOut, RedisRefused and RedisBadAnswer, each with its ``state``.

    Methods that change something take ``expected``, a run ID from `run_id`. If the server was restarted since, they
    raise `TargetError` and change nothing.
    """

    def __init__(self, endpoint: RedisEndpoint) -> None:
        self.endpoint = endpoint

    async def health(self) -> Health:
        """Return the state of the server. A failure is an answer, not an exception."""
        try:
            async with connected(self.endpoint) as connection:
                return await _health(connection, self.info)
        except (RedisUnreachable, RedisTimedOut, RedisRefused, RedisBadAnswer) as error:
            return Health(error.state, str(error))

    async def ping(self) -> timedelta:
        """Return the latency of a PING on an open connection."""
        async with connected(self.endpoint) as connection:
            return await _ping(connection)

    async def info(self, *sections: str) -> Info:
        """Return the INFO fields of these sections, or of the default sections."""
        async with connected(self.endpoint) as connection:
            return await _info(connection, *sections)

    async def run_id(self) -> str:
        """Return the run ID of the server. It changes with every start."""
        return (await self.info("server")).text("run_id")

    async def role(self) -> Role:
        """Return the replication role: master, or replica of which master."""
        async with connected(self.endpoint) as connection:
            return facts.role(await connection.read("ROLE"))

    async def config_get(self, name: str) -> str:
        """Return a parameter of `READABLE`.

        Raises:
            InputError: the parameter is not in the list.
        """
        _allowed(name, READABLE, "GET")
        async with connected(self.endpoint) as connection:
            return await _config(connection, name)

    async def config_set(self, name: str, value: str, *, expected: str | None = None) -> ConfigChange:
        """Set a parameter of `WRITABLE` until the next restart. Return the old and new value.

        Raises:
            InputError: the parameter is not in the list.
        """
        _allowed(name, WRITABLE, "SET")
        async with connected(self.endpoint) as connection:
            await _check(connection, expected)
            old = await _config(connection, name)
            await connection.write("CONFIG", "SET", name, value)
            return ConfigChange(name, old, await _config(connection, name))

    async def config_rewrite(self, *, expected: str | None = None) -> None:
        """Write the current parameters to the server's configuration file (CONFIG REWRITE)."""
        await self._write("CONFIG", "REWRITE", expected=expected)

    async def bgsave(self, *, expected: str | None = None) -> str:
        """Start a snapshot (BGSAVE). INFO persistence shows whether it succeeded; the reply does not."""
        return text(await self._write("BGSAVE", expected=expected))

    async def bgrewriteaof(self, *, expected: str | None = None) -> str:
        """Start to rewrite the append-only file, or schedule it after a running snapshot.

        The reply shows which of the two.

        Only INFO persistence shows whether it succeeded.
        """
        return text(await self._write("BGREWRITEAOF", expected=expected))

    async def memory_purge(self, *, expected: str | None = None) -> None:
        """Return freed memory to the operating system (MEMORY PURGE)."""
        await self._write("MEMORY", "PURGE", expected=expected)

    async def big_keys(
        self, *, limit: int = 10_000, top: int = 10, within: timedelta = timedelta(seconds=5)
    ) -> BigKeys:
        """Return the biggest of the first ``limit`` keys of SCAN, or of the keys scanned within the time."""
        biggest: list[tuple[int, bytes]] = []
        scanned, cursor = 0, b"0"
        async with connected(self.endpoint) as connection:
            deadline = time.monotonic() + within.total_seconds()
            while True:
                reply = await connection.read("SCAN", cursor, "COUNT", min(_SCAN_COUNT, max(limit - scanned, 1)))
                cursor, keys = reply
                sizes = await connection.read_many(("MEMORY", "USAGE", key) for key in keys)
                scanned += len(keys)
                found = [(size, key) for size, key in zip(sizes, keys, strict=True) if size is not None]
                biggest = heapq.nlargest(top, biggest + found)
                if cursor == b"0" or scanned >= limit or time.monotonic() >= deadline:
                    break
        return BigKeys(tuple(BigKey(facts.shown(key), size) for size, key in biggest), scanned, cursor == b"0")

    async def slowlog(self, count: int = 25) -> tuple[SlowCommand, ...]:
        """Return the latest slow commands, newest first."""
        async with connected(self.endpoint) as connection:
            return facts.slow_commands(await connection.read("SLOWLOG", "GET", count))

    async def latency(self) -> tuple[LatencyEvent, ...]:
        """Return the events of the latency monitor. The list is empty while latency-monitor-threshold is 0."""
        async with connected(self.endpoint) as connection:
            return facts.latency_events(await connection.read("LATENCY", "LATEST"))

    async def clients(self) -> tuple[Client, ...]:
        """Return all connections of the server, including this one."""
        async with connected(self.endpoint) as connection:
            return facts.clients(await connection.read("CLIENT", "LIST"))

    async def kill_client(self, client_id: int, *, expected: str | None = None) -> bool:
        """Close one connection. Return False if no connection has this ID (IDs are not reused)."""
        return bool(await self._write("CLIENT", "KILL", "ID", client_id, expected=expected))

    async def write_test(self, token: str) -> timedelta:
        """Write, read and delete a test key. Return how long that took.

        The test never overwrites a key. The key expires if it cannot be deleted.

        Args:
            token: makes the key unique, for example the ID of the run.

        Raises:
            RedisRefused: with the state that explains it (read-only, out of memory, cannot persist, …).
            RedisBadAnswer: the value read differs from the value written.
        """
        key = _TEST_PREFIX + token
        async with connected(self.endpoint) as connection:
            begun = time.monotonic()
            if await connection.write("SET", key, token, "NX", "PX", _TEST_LIFE) is None:
                raise RedisBadAnswer(f"{connection.name} already has the key {key}")
            found = await connection.read("GET", key)
            deleted = await connection.write("DEL", key)
        if found != token.encode() or deleted != 1:
            raise RedisBadAnswer(f"{connection.name} returned another value than was written")
        return timedelta(seconds=time.monotonic() - begun)

    async def _write(self, *command: str | int, expected: str | None) -> Any:
        async with connected(self.endpoint) as connection:
            await _check(connection, expected)
            return await connection.write(*command)


async def _ping(connection: RedisConnection) -> timedelta:
    begun = time.monotonic()
    if await connection.read("PING") != b"PONG":
        raise RedisBadAnswer(f"{connection.name} sent an unexpected reply to PING")
    return timedelta(seconds=time.monotonic() - begun)


async def _health(connection: RedisConnection, read_info: Callable[[str], Awaitable[Info]]) -> Health:
    server = connection.server_info
    known = partial(Health, version=server.version, role=server.role, address=connection.name)
    try:
        latency = await _ping(connection)
    except RedisRefused as error:
        if error.state is not RedisState.LOADING:
            return known(error.state, str(error))
        # redis-py closes a connection on this answer, and would open it again without our AUTH
        info = await read_info("persistence")
        if not info.flag("loading"):  # the command finished in the meantime; the next observation sees this
            return known(RedisState.LOADING, "loaded just now", loaded_percent=100.0)
        percent, eta = info.number("loading_loaded_perc"), timedelta(seconds=info.number("loading_eta_seconds"))
        detail = f"{percent:.0f} % loaded, about {eta.total_seconds():.0f} s left"
        return known(RedisState.LOADING, detail, loaded_percent=percent, loading_eta=eta)
    # PING is answered during a shutdown that waits for replicas, although writes are not
    left = (await _info(connection, "server")).get("shutdown_in_milliseconds")
    if left is not None:
        return known(RedisState.SHUTTING_DOWN, f"it waits at most {int(left) / 1000:.0f} s for its replicas")
    return known(RedisState.SERVING, "answers", latency=latency)


async def _info(connection: RedisConnection, *sections: str) -> Info:
    return facts.info(await connection.read("INFO", *sections))


async def _check(connection: RedisConnection, expected: str | None) -> None:
    if expected is not None and (await _info(connection, "server")).text("run_id") != expected:
        raise TargetError(
            f"{connection.name} was restarted after planning, or another server is the master now; nothing was changed"
        )


async def _config(connection: RedisConnection, name: str) -> str:
    reply = await connection.read("CONFIG", "GET", name)
    if not isinstance(reply, list) or len(reply) != 2:
        raise RedisRefused(f"{connection.name} has no parameter {name!r}", RedisState.REFUSING)
    return text(reply[1])


def _allowed(name: str, names: frozenset[str], verb: str) -> None:
    if name not in names:
        raise InputError(f"CONFIG {verb} {name!r} is not allowed; allowed parameters: {', '.join(sorted(names))}")
