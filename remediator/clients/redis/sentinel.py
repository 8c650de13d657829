"""Redis Sentinel: find the master."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from remediator.clients.endpoints import SentinelEndpoint
from remediator.clients.redis.connection import (
    RedisBadAnswer,
    RedisConnection,
    RedisEndpoint,
    RedisRefused,
    RedisState,
    RedisUnreachable,
    connect,
    open_connection,
    text,
)
from remediator.errors import ClientError, Refused, Unreachable


@dataclass(frozen=True, slots=True)
class Master:
    """Address of the master, and how many Sentinels agree on it."""

    host: str
    port: int
    votes: int
    sentinels: int


class Sentinel:
    """A client of the Sentinels of one master."""

    def __init__(self, endpoint: SentinelEndpoint) -> None:
        self.endpoint = endpoint

    async def master(self) -> Master:
        """Return the address of the master that a majority of all Sentinels reports.

        Raises:
            Unreachable: fewer than a majority of the Sentinels answer.
            RedisRefused: they do not know the master, or reject the credentials.
            RedisBadAnswer: there is no majority for one address, for example during a failover.
        """
        answers: list[tuple[str, int]] = []
        failures: list[ClientError] = []
        shared = {name: getattr(self.endpoint, name) for name in ("username", "password_file", "tls", "timeout")}
        for each in self.endpoint.sentinels:
            try:
                answers.append(await self._query(RedisEndpoint(host=each.host, port=each.port, **shared)))
            except ClientError as error:
                failures.append(error)
        count = len(self.endpoint.sentinels)
        if len(answers) * 2 <= count:
            refused = next((error for error in failures if isinstance(error, Refused)), None)
            if (unasked := next((error for error in failures if _is_unasked(error)), None)) is not None:
                raise unasked
            raise refused or Unreachable(f"only {len(answers)} of {count} Sentinels answer: {failures[0]}")
        (host, port), votes = Counter(answers).most_common(1)[0]
        if votes * 2 <= count:
            raise RedisBadAnswer(
                f"the Sentinels do not agree on the address of {self.endpoint.master!r}: {sorted(set(answers))}"
            )
        return Master(host, port, votes, count)

    async def _query(self, endpoint: RedisEndpoint) -> tuple[str, int]:
        async with open_connection(endpoint) as connection:
            reply = await connection.read("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.endpoint.master)
        if reply is None:
            raise RedisRefused(f"{endpoint.name} does not monitor {self.endpoint.master!r}", RedisState.REFUSING)
        if not isinstance(reply, list) or len(reply) != 2 or not text(reply[1]).isdigit():
            raise RedisBadAnswer(f"{endpoint.name} sent no address")
        return text(reply[0]), int(reply[1])

    async def failing(self) -> str | None:
        """Return why the Sentinels do not consider the master healthy: its flags; None if they do, or do not answer."""
        shared = {name: getattr(self.endpoint, name) for name in ("username", "password_file", "tls", "timeout")}
        for each in self.endpoint.sentinels:
            try:
                async with open_connection(RedisEndpoint(host=each.host, port=each.port, **shared)) as connection:
                    reply = await connection.read("SENTINEL", "MASTER", self.endpoint.master)
            except ClientError:
                continue
            fields = dict(zip(map(text, reply[::2]), map(text, reply[1::2]), strict=True))
            found = _FAILING & set(fields.get("flags", "").split(","))
            if found:
                return ", ".join(sorted(found))
        return None


_FAILING = {"s_down", "o_down", "failover_in_progress", "disconnected"}
"""Flags of a master that its Sentinels may replace."""


def _is_unasked(error: ClientError) -> bool:
    """Return whether no Sentinel was queried because our own files cannot be used."""
    return isinstance(error, RedisUnreachable) and error.state is RedisState.UNASKED


@asynccontextmanager
async def connected(endpoint: RedisEndpoint) -> AsyncIterator[RedisConnection]:
    """Open a connection to a Redis server. With Sentinels, connect to the current master.

    Raises:
        RedisUnreachable: there is no connection, or too few Sentinels answer.
        RedisRefused: credentials are rejected, or the kind of server is not supported.
        RedisBadAnswer: there is no majority of Sentinels for one master.
    """
    if endpoint.sentinel is not None:
        try:
            master = await Sentinel(endpoint.sentinel).master()
        except Unreachable as error:
            state = RedisState.UNASKED if _is_unasked(error) else RedisState.UNREACHABLE
            raise RedisUnreachable(f"{endpoint.name}: {error}", state) from error
        sentinels = endpoint.sentinel
        endpoint = endpoint.model_copy(update={"host": master.host, "port": master.port, "sentinel": None})
        async with _master(endpoint, sentinels) as connection:
            yield connection
        return
    async with connect(endpoint) as connection:
        yield connection


@asynccontextmanager
async def _master(endpoint: RedisEndpoint, sentinels: SentinelEndpoint) -> AsyncIterator[RedisConnection]:
    """Connect to the master that the Sentinels named.

    A master that rejects connections or does not answer is not *down* or *silent* here. Its Sentinels notice it too and
    promote a replica. An action on the old master would then change the wrong server.
    """
    async with AsyncExitStack() as stack:
        try:
            connection = await stack.enter_async_context(connect(endpoint))
        except RedisUnreachable as error:
            why = None
            if error.state is RedisState.UNREACHABLE:
                why = await Sentinel(sentinels).failing()
            if error.state in (RedisState.DOWN, RedisState.SILENT) or why is not None:
                seen = why or "not noticed yet"
                text = f"the Sentinels of {sentinels.master!r} may promote a replica ({seen}): {error}"
                raise RedisUnreachable(text, RedisState.FAILOVER) from error
            raise
        yield connection
