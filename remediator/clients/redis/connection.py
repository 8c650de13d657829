"""One connection to a Redis server, and what every way of not being served means."""

from __future__ import annotations

import asyncio
import errno
import ssl
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from redis import exceptions
from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection, UnixDomainSocketConnection

from remediator.clients.endpoints import RedisEndpoint as RedisEndpoint
from remediator.clients.endpoints import TlsSettings, read_secret
from remediator.clients.tls import NOT_STRICT
from remediator.errors import BadAnswer, Refused, TimedOut, Unreachable

Word = bytes | str | int
_REFUSED = f"[Errno {errno.ECONNREFUSED}]"  # of a name with several addresses, asyncio gives only the text


class RedisState(StrEnum):
    """How a Redis serves, as far as one question tells."""

    SERVING = "serving"
    DOWN = "down"  # the host is there and nobody accepts connections
    UNREACHABLE = "out of reach"  # no route, no name, cut off, swallowed: whether it runs is unknown
    UNTRUSTED = "not trusted"  # TLS failed: somebody is there who is not who we look for, or does not know us
    UNASKED = "not asked"  # our own credentials cannot be read
    SILENT = "silent"  # accepts connections and does not answer: hung, stopped, or blocked by one slow command
    LOADING = "loading"
    NO_PASSWORD = "no password given"  # noqa: S105 - a state, not a secret
    WRONG_PASSWORD = "wrong password"  # noqa: S105
    NO_PERMISSION = "no permission"
    MASTER_DOWN = "link to the master is down"
    READ_ONLY = "read-only replica"
    OUT_OF_MEMORY = "out of memory"
    CANNOT_PERSIST = "cannot persist, so refuses writes"
    BUSY = "busy with a script"
    TOO_FEW_REPLICAS = "too few replicas, so refuses writes"
    TOO_MANY_CLIENTS = "too many clients"
    PROTECTED = "protected mode"
    CLUSTER = "part of a Redis Cluster"
    SENTINEL = "a Sentinel, not a Redis"
    REFUSING = "refusing"
    CONFUSED = "not speaking Redis"


class RedisUnreachable(Unreachable):
    """No connection, or none that answers: no command was sent."""

    def __init__(self, message: str, state: RedisState) -> None:
        super().__init__(message)
        self.state = state


class RedisTimedOut(TimedOut):
    """A command was sent and not answered."""

    state = RedisState.SILENT


class RedisRefused(Refused):
    """Redis answered with an error; ``state`` says what it means for the server."""

    def __init__(self, message: str, state: RedisState) -> None:
        super().__init__(message)
        self.state = state


class RedisBadAnswer(BadAnswer):
    """Whatever answers there, it is not what a Redis answers."""

    state = RedisState.CONFUSED


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """What the server said about itself when we connected; empty strings from one older than Redis 6."""

    version: str = ""
    mode: str = ""
    role: str = ""


class RedisConnection:
    """A connection on which commands can be sent, one after the other."""

    def __init__(self, endpoint: RedisEndpoint, connection: AbstractConnection) -> None:
        self.name = endpoint.name
        self.greeting = ServerInfo()
        self._connection = connection
        self._seconds = endpoint.timeout.total_seconds()

    async def ask(self, *command: Word) -> Any:
        """The reply to a command that changes nothing."""
        return (await self._send([command], changes=False))[0]

    async def tell(self, *command: Word) -> Any:
        """The reply to a command that may change something: without one its outcome is unknown."""
        return (await self._send([command], changes=True))[0]

    async def ask_each(self, commands: Iterable[tuple[Word, ...]]) -> list[Any]:
        """The replies to several commands that change nothing, sent at once."""
        return await self._send(list(commands), changes=False)

    async def _send(self, commands: list[tuple[Word, ...]], *, changes: bool) -> list[Any]:
        if not commands:
            return []
        name = str(commands[0][0])
        try:
            async with asyncio.timeout(self._seconds):
                packed = self._connection.pack_commands(commands)
                await self._connection.send_packed_command(packed, check_health=False)
                return [await self._connection.read_response() for _ in commands]
        except (TimeoutError, exceptions.TimeoutError):
            raise RedisTimedOut(f"{self.name} did not answer {name} within {self._seconds:g} s") from None
        except exceptions.RedisError as error:
            raise self._meaning(error, name, changes) from error
        except ValueError as error:
            raise RedisBadAnswer(f"{self.name} answered {name} with garbage: {error}") from error

    def _meaning(self, error: exceptions.RedisError, command: str, changes: bool) -> Exception:
        state = _state(error)
        if state is not None:
            return RedisRefused(f"{self.name} refused {command}: {state}: {error}", state)
        if isinstance(error, exceptions.InvalidResponse):
            return RedisBadAnswer(f"{self.name} answered {command} with garbage: {error}")
        if changes:
            return RedisTimedOut(f"{self.name} closed the connection before it answered {command}")
        return RedisUnreachable(f"{self.name} closed the connection: {error}", _state_of_failed_connection(error))


@asynccontextmanager
async def connect(endpoint: RedisEndpoint) -> AsyncIterator[RedisConnection]:
    """A connection of our own, authenticated, to a Redis that is neither a cluster node nor a Sentinel.

    Raises:
        RedisUnreachable: no connection, or nobody answers on it.
        RedisRefused: it does not let us in, or is of a kind that is not supported.
    """
    async with open_link(endpoint) as link:
        if link.greeting.mode == "cluster":
            raise RedisRefused(
                f"{link.name} is part of a Redis Cluster, which is not supported: name a standalone server or a "
                "replica of a Sentinel set-up",
                RedisState.CLUSTER,
            )
        if link.greeting.mode == "sentinel":
            raise RedisRefused(f"{link.name} is a Sentinel; name it under sentinel", RedisState.SENTINEL)
        yield link


@asynccontextmanager
async def open_link(endpoint: RedisEndpoint) -> AsyncIterator[RedisConnection]:
    """Like `connect`, whatever kind of server it is."""
    connection = _connection(endpoint)
    try:
        link = RedisConnection(endpoint, connection)
        await _shake_hands(link, endpoint, connection)
        yield link
    finally:
        with suppress(exceptions.RedisError, OSError):  # it is gone already, which is what was wanted
            await connection.disconnect()


async def _shake_hands(link: RedisConnection, endpoint: RedisEndpoint, connection: AbstractConnection) -> None:
    credentials = _credentials(endpoint)
    try:
        await connection.connect()  # type: ignore[no-untyped-call]
        if credentials:
            await link.ask("AUTH", *credentials)
        link.greeting = _greeting(await link.ask("HELLO"))
        if endpoint.db:
            await link.ask("SELECT", endpoint.db)
    except (OSError, exceptions.ConnectionError, exceptions.TimeoutError) as error:
        state = _state_of_failed_connection(error)
        why = "nobody listens" if state is RedisState.DOWN else f"{state}: {error}"
        raise RedisUnreachable(f"no connection to {link.name}: {why}", state) from error
    except RedisTimedOut as error:
        raise RedisUnreachable(f"{link.name} accepts connections but does not answer", RedisState.SILENT) from error
    except RedisRefused as error:
        if "unknown command" not in str(error):  # older than Redis 6: no HELLO
            raise


def _state_of_failed_connection(error: BaseException) -> RedisState:
    """Only a refused connection proves that nobody listens; redis-py hides the reason behind its own error."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, OSError):
        cause = cause.__context__
    if isinstance(cause, ssl.SSLError):
        return RedisState.UNTRUSTED
    if isinstance(cause, ConnectionRefusedError | FileNotFoundError) or _REFUSED in str(cause):
        return RedisState.DOWN
    return RedisState.UNREACHABLE


def _credentials(endpoint: RedisEndpoint) -> tuple[str, ...]:
    for file in (endpoint.tls.ca_file, endpoint.tls.cert_file, endpoint.tls.key_file) if endpoint.tls else ():
        if file is not None and not file.is_file():
            raise RedisUnreachable(f"{endpoint.name} was not asked: {file} is missing", RedisState.UNASKED)
    if endpoint.password_file is None:
        return ()
    try:
        password = read_secret(endpoint.password_file)
    except (OSError, ValueError) as error:
        raise RedisUnreachable(f"{endpoint.name} was not asked: {error}", RedisState.UNASKED) from None
    return (password,) if endpoint.username is None else (endpoint.username, password)


def _connection(endpoint: RedisEndpoint) -> AbstractConnection:
    """One that does exactly what it is told: no retries, no library name, no database, no read limit of its own."""
    seconds = endpoint.timeout.total_seconds()
    settings: dict[str, Any] = {"socket_timeout": None, "socket_connect_timeout": seconds, "protocol": 2}
    settings["driver_info"] = None
    if endpoint.socket is not None:
        return UnixDomainSocketConnection(path=str(endpoint.socket), **settings)
    settings |= {"host": endpoint.host, "port": endpoint.port}
    return Connection(**settings) if endpoint.tls is None else SSLConnection(**settings, **_tls(endpoint.tls))


def _tls(tls: TlsSettings) -> dict[str, Any]:
    return {
        "ssl_ca_certs": str(tls.ca_file) if tls.ca_file else None,
        "ssl_certfile": str(tls.cert_file) if tls.cert_file else None,
        "ssl_keyfile": str(tls.key_file) if tls.key_file else None,
        "ssl_cert_reqs": "none" if tls.insecure_skip_verify else "required",
        "ssl_check_hostname": not tls.insecure_skip_verify,
        "ssl_exclude_verify_flags": [NOT_STRICT] if tls.ca_file else None,
    }


def _greeting(reply: Any) -> ServerInfo:
    if not isinstance(reply, list) or len(reply) % 2:
        raise RedisBadAnswer(f"HELLO was answered with {type(reply).__name__}")
    fields = dict(zip(map(text, reply[::2]), reply[1::2], strict=True))
    return ServerInfo(*(text(fields.get(name, b"")) for name in ("version", "mode", "role")))


def text(reply: Any) -> str:
    """A reply as text, whatever bytes it is made of.

    Raises:
        RedisBadAnswer: it is not a string.
    """
    if not isinstance(reply, bytes):
        raise RedisBadAnswer(f"a string was expected and {type(reply).__name__} came")
    return reply.decode("utf-8", "backslashreplace")


_BY_CLASS: tuple[tuple[type[exceptions.RedisError], RedisState], ...] = (
    (exceptions.BusyLoadingError, RedisState.LOADING),
    (exceptions.ReadOnlyError, RedisState.READ_ONLY),
    (exceptions.OutOfMemoryError, RedisState.OUT_OF_MEMORY),
    (exceptions.NoPermissionError, RedisState.NO_PERMISSION),
    (exceptions.MasterDownError, RedisState.MASTER_DOWN),
    (exceptions.ClusterError, RedisState.CLUSTER),
    (exceptions.AskError, RedisState.CLUSTER),
)
_BY_WORD = {
    "MISCONF": RedisState.CANNOT_PERSIST,
    "BUSY": RedisState.BUSY,
    "NOREPLICAS": RedisState.TOO_FEW_REPLICAS,
    "DENIED": RedisState.PROTECTED,
}


def _state(error: exceptions.RedisError) -> RedisState | None:
    """What an error reply means; None if it is not a reply. redis-py strips the code from those it has a class for."""
    message = str(error)
    if "max number of clients" in message:
        return RedisState.TOO_MANY_CLIENTS
    for kind, state in _BY_CLASS:
        if isinstance(error, kind):
            return state
    if isinstance(error, exceptions.AuthenticationError | exceptions.AuthorizationError):
        needed = "required" in message or "must be called with the client already authenticated" in message
        return RedisState.NO_PASSWORD if needed else RedisState.WRONG_PASSWORD
    if isinstance(error, exceptions.ResponseError):
        return _BY_WORD.get(message.split(" ", 1)[0], RedisState.REFUSING)
    return None
