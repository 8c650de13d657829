"""Redis Sentinel: who is the master."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
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
    open_link,
    text,
)
from remediator.errors import ClientError, Refused, Unreachable


@dataclass(frozen=True, slots=True)
class Master:
    """Where the master is, as said by so many of the Sentinels that answered."""

    host: str
    port: int
    said_by: int
    asked: int


class Sentinel:
    """The Sentinels of one master."""

    def __init__(self, endpoint: SentinelEndpoint) -> None:
        self.endpoint = endpoint

    async def master(self) -> Master:
        """Where the master is now, by the word of a majority of all the Sentinels.

        Raises:
            Unreachable: too few of them answer to be a majority.
            RedisRefused: they do not know that master, or do not let us in.
            RedisBadAnswer: no majority of them agrees, as while a failover is under way.
        """
        answers: list[tuple[str, int]] = []
        failures: list[ClientError] = []
        for endpoint in _each(self.endpoint):
            try:
                answers.append(await self._ask(endpoint))
            except ClientError as error:
                failures.append(error)
        return self._majority(answers, failures)

    def _majority(self, answers: list[tuple[str, int]], failures: list[ClientError]) -> Master:
        count = len(self.endpoint.sentinels)
        if len(answers) * 2 <= count:
            refused = next((error for error in failures if isinstance(error, Refused)), None)
            raise refused or Unreachable(f"only {len(answers)} of {count} Sentinels answer: {failures[0]}")
        (host, port), votes = Counter(answers).most_common(1)[0]
        if votes * 2 <= count:
            raise RedisBadAnswer(f"the Sentinels do not agree where {self.endpoint.master} is: {sorted(set(answers))}")
        return Master(host, port, votes, count)

    async def _ask(self, endpoint: RedisEndpoint) -> tuple[str, int]:
        async with open_link(endpoint) as link:
            reply = await link.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.endpoint.master)
        if reply is None:
            raise RedisRefused(f"{endpoint.name} does not watch {self.endpoint.master}", RedisState.REFUSING)
        if not isinstance(reply, list) or len(reply) != 2 or not text(reply[1]).isdigit():
            raise RedisBadAnswer(f"{endpoint.name} did not answer with an address")
        return text(reply[0]), int(reply[1])


def _each(endpoint: SentinelEndpoint) -> tuple[RedisEndpoint, ...]:
    """How each of the Sentinels is reached."""
    who = {name: getattr(endpoint, name) for name in ("username", "password_file", "tls", "timeout")}
    return tuple(RedisEndpoint(host=each.host, port=each.port, **who) for each in endpoint.sentinels)


@asynccontextmanager
async def connected(endpoint: RedisEndpoint) -> AsyncIterator[RedisConnection]:
    """A connection to a Redis; behind Sentinels, to the one that is the master at this moment.

    Raises:
        RedisUnreachable: no connection; or too few Sentinels answer, so nobody knows which one is meant.
        RedisRefused: it, or the Sentinels, do not let us in or are of a kind that is not supported.
        RedisBadAnswer: no majority of the Sentinels agrees.
    """
    if endpoint.sentinel is not None:
        try:
            master = await Sentinel(endpoint.sentinel).master()
        except Unreachable as error:
            raise RedisUnreachable(f"{endpoint.name}: {error}", RedisState.UNREACHABLE) from error
        endpoint = endpoint.model_copy(update={"host": master.host, "port": master.port, "sentinel": None})
    async with connect(endpoint) as link:
        yield link
