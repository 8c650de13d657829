"""Redis Sentinel: who is the master."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from pydantic import Field

from remediator.clients.endpoint import Duration, FilePath, Strict, TlsSettings
from remediator.clients.redis_wire import RedisBadAnswer, RedisEndpoint, RedisRefused, RedisState, open_link, text
from remediator.errors import ClientError, Refused, Unreachable

_PORT = 26379


class SentinelAddress(Strict):
    """Where one Sentinel listens."""

    host: str
    port: int = Field(default=_PORT, ge=1, le=65535)


class SentinelEndpoint(Strict):
    """A set of Sentinels, the name of the master that they watch, and how to log in to the Sentinels themselves."""

    sentinels: tuple[SentinelAddress, ...] = Field(min_length=1)
    master: str
    username: str | None = None
    password_file: FilePath | None = None
    tls: TlsSettings | None = None
    timeout: Duration = RedisEndpoint.model_fields["timeout"].default

    def each(self) -> tuple[RedisEndpoint, ...]:
        """How each of the Sentinels is reached."""
        shared = {"username": self.username, "password_file": self.password_file, "tls": self.tls}
        return tuple(
            RedisEndpoint(host=each.host, port=each.port, timeout=self.timeout, **shared)  # type: ignore[arg-type]
            for each in self.sentinels
        )


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
        for endpoint in self.endpoint.each():
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
