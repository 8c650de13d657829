"""A connection to a Redis server, and the meaning of every failure."""

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
from remediator.clients.endpoints import read_secret
from remediator.clients.http import tls_context
from remediator.clients.tls import NOT_STRICT
from remediator.errors import BadAnswer, ConfigurationError, Refused, TimedOut, Unreachable

Word = bytes | str | int
_REFUSED = f"[Errno {errno.ECONNREFUSED}]"  # for a host with several addresses, asyncio reports only the text


class RedisState(StrEnum):
    """State of a Redis server, as one command shows it. Playbooks compare these values."""

    SERVING = "serving"
    DOWN = "down"  # the host rejects connections: no process listens on the port
    UNREACHABLE = "out of reach"  # no route, no DNS name, or lost packets: the state of the server is unknown
    UNTRUSTED = "not trusted"  # TLS failed: wrong server certificate, or our client certificate was rejected
    UNASKED = "not asked"  # our own credentials cannot be read
    SILENT = "silent"  # Redis accepts connections and does not answer: it hangs, is stopped, or runs a slow command
    LOADING = "loading"
    SHUTTING_DOWN = "being shut down"  # Redis shuts down: it waits for its replicas and accepts no writes
    FAILOVER = "failover in progress"  # Sentinel: the master does not answer, and the Sentinels decide on a new one
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
    """There is no working connection. No command was sent."""

    def __init__(self, message: str, state: RedisState) -> None:
        super().__init__(message)
        self.state = state


class RedisTimedOut(TimedOut):
    """A command was sent and not answered."""

    state = RedisState.SILENT


class RedisRefused(Refused):
    """Redis answered with an error; ``state`` is the state that explains it."""

    def __init__(self, message: str, state: RedisState) -> None:
        super().__init__(message)
        self.state = state


class RedisBadAnswer(BadAnswer):
    """The answer does not follow the protocol of Redis."""

    state = RedisState.CONFUSED


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """The answer of the server to HELLO. Empty before Redis 6."""

    version: str = ""
    mode: str = ""
    role: str = ""


class RedisConnection:
    """A connection. Commands are sent one after the other."""

    def __init__(self, endpoint: RedisEndpoint, connection: AbstractConnection) -> None:
        self.name = endpoint.name
        self.server_info = ServerInfo()
        self._connection = connection
        self._seconds = endpoint.timeout.total_seconds()

    async def read(self, *command: Word) -> Any:
        """Send a command that changes nothing and return its reply."""
        return (await self._send([command], changes=False))[0]

    async def write(self, *command: Word) -> Any:
        """Send a command that may change something and return its reply. Without a reply, its outcome is unknown."""
        return (await self._send([command], changes=True))[0]

    async def read_many(self, commands: Iterable[tuple[Word, ...]]) -> list[Any]:
        """Send several commands that change nothing in one batch and return their replies."""
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
            raise self._failure(error, name, changes) from error
        except ValueError as error:
            raise RedisBadAnswer(f"{self.name} sent an invalid answer to {name}: {error}") from error

    def _failure(self, error: exceptions.RedisError, command: str, changes: bool) -> Exception:
        state = _state(error)
        if state is not None:
            return RedisRefused(f"{self.name} refused {command}: {state}: {error}", state)
        if isinstance(error, exceptions.InvalidResponse):
            return RedisBadAnswer(f"{self.name} sent an invalid answer to {command}: {error}")
        if changes:
            return RedisTimedOut(f"{self.name} closed the connection before it answered {command}")
        return RedisUnreachable(f"{self.name} closed the connection: {error}", _state_of_failed_connection(error))


@asynccontextmanager
async def connect(endpoint: RedisEndpoint) -> AsyncIterator[RedisConnection]:
    """Open an authenticated connection to a Redis server that is neither a cluster node nor a Sentinel.

    Raises:
        RedisUnreachable: there is no connection, or the server does not answer.
        RedisRefused: the credentials are rejected, or the kind of server is not supported.
    """
    async with open_connection(endpoint) as server:
        if server.server_info.mode == "cluster":
            raise RedisRefused(
                f"{server.name} is part of a Redis Cluster, which is not supported: use a standalone server, or "
                "Redis with Sentinel",
                RedisState.CLUSTER,
            )
        if server.server_info.mode == "sentinel":
            raise RedisRefused(f"{server.name} is a Sentinel: configure it under 'sentinel'", RedisState.SENTINEL)
        yield server


@asynccontextmanager
async def open_connection(endpoint: RedisEndpoint) -> AsyncIterator[RedisConnection]:
    """Open an authenticated connection to any kind of server."""
    connection = _connection(endpoint)
    try:
        server = RedisConnection(endpoint, connection)
        await _handshake(server, endpoint, connection)
        yield server
    finally:
        with suppress(exceptions.RedisError, OSError):  # redis-py has closed the connection already
            await connection.disconnect()


async def _handshake(server: RedisConnection, endpoint: RedisEndpoint, connection: AbstractConnection) -> None:
    credentials = _credentials(endpoint)
    try:
        await connection.connect()  # type: ignore[no-untyped-call]
        if credentials:
            await server.read("AUTH", *credentials)
        reply = await server.read("HELLO")
        if not isinstance(reply, list) or len(reply) % 2:
            raise RedisBadAnswer(f"unexpected reply to HELLO: {type(reply).__name__}")
        fields = dict(zip(map(text, reply[::2]), reply[1::2], strict=True))
        server.server_info = ServerInfo(*(text(fields.get(name, b"")) for name in ("version", "mode", "role")))
        if endpoint.db:
            await server.read("SELECT", endpoint.db)
    except (OSError, exceptions.ConnectionError, exceptions.TimeoutError) as error:
        state = _state_of_failed_connection(error)
        why = "connection refused" if state is RedisState.DOWN else f"{state}: {error}"
        raise RedisUnreachable(f"no connection to {server.name}: {why}", state) from error
    except RedisTimedOut as error:
        raise RedisUnreachable(f"{server.name} accepts connections but does not answer", RedisState.SILENT) from error
    except RedisRefused as error:
        if "unknown command" not in str(error):  # Redis before version 6 has no HELLO
            raise


def _state_of_failed_connection(error: BaseException) -> RedisState:
    """Return the state that explains a failed connection. Only a refused connection proves that no process listens.

    redis-py wraps the original error, so this function follows the chain of causes.
    """
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, OSError):
        cause = cause.__context__
    if isinstance(cause, ssl.SSLError):
        return RedisState.UNTRUSTED
    if isinstance(cause, ConnectionRefusedError | FileNotFoundError) or _REFUSED in str(cause):
        return RedisState.DOWN
    return RedisState.UNREACHABLE


def _credentials(endpoint: RedisEndpoint) -> tuple[str, ...]:
    """Return the arguments of AUTH, after a check that our own files can be used: password and TLS files.

    Raises:
        RedisUnreachable: a file cannot be used, with the state UNASKED. This is no fact about the server.
    """
    try:
        if endpoint.tls is not None and (endpoint.tls.ca_file or endpoint.tls.cert_file):
            tls_context(endpoint.tls)
        if endpoint.password_file is None:
            return ()
        password = read_secret(endpoint.password_file)
    except (OSError, ValueError, ConfigurationError) as error:
        raise RedisUnreachable(f"no command was sent to {endpoint.name}: {error}", RedisState.UNASKED) from None
    return (password,) if endpoint.username is None else (endpoint.username, password)


def _connection(endpoint: RedisEndpoint) -> AbstractConnection:
    """Return a connection without redis-py's additions: no retries, library name, database or read timeout."""
    seconds = endpoint.timeout.total_seconds()
    settings: dict[str, Any] = {"socket_timeout": None, "socket_connect_timeout": seconds, "protocol": 2}
    settings["driver_info"] = None
    if endpoint.socket is not None:
        return UnixDomainSocketConnection(path=str(endpoint.socket), **settings)
    settings |= {"host": endpoint.host, "port": endpoint.port}
    if (tls := endpoint.tls) is None:
        return Connection(**settings)
    return SSLConnection(
        **settings,
        ssl_ca_certs=str(tls.ca_file) if tls.ca_file else None,
        ssl_certfile=str(tls.cert_file) if tls.cert_file else None,
        ssl_keyfile=str(tls.key_file) if tls.key_file else None,
        ssl_cert_reqs="none" if tls.insecure_skip_verify else "required",
        ssl_check_hostname=not tls.insecure_skip_verify,
        ssl_exclude_verify_flags=[NOT_STRICT] if tls.ca_file else None,
    )


def text(reply: Any) -> str:
    """Decode a reply. Bytes that are not UTF-8 are escaped.

    Raises:
        RedisBadAnswer: the reply is not a string.
    """
    if not isinstance(reply, bytes):
        raise RedisBadAnswer(f"unexpected reply: {type(reply).__name__} instead of a string")
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
    """Return the state for an error reply, or None if the error is not a reply.

    redis-py removes the code from the text of errors with their own class.
    """
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
