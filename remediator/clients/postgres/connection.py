"""A connection to a PostgreSQL server, and the meaning of every failure.

It needs the extra ``postgres`` (psycopg), which is imported at the first call. A connection is for a few statements and
is closed after them. It reads only, unless its caller writes; its session has an application name, by which remediator
recognises its own sessions.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from types import ModuleType
from typing import Any

from remediator.clients.endpoints import read_secret
from remediator.clients.postgres.settings import PostgresEndpoint
from remediator.errors import BadAnswer, Refused, TimedOut, Unreachable

APPLICATION = "remediator"
"""Application name of a session of remediator, or the beginning of it."""
MISSING = "PostgreSQL needs psycopg, which is not installed: pip install 'remediator[postgres]'"
_OLDEST = 140_000
_WAKE = 0.1
Rows = list[dict[str, Any]]


class PostgresState(StrEnum):
    """State of a PostgreSQL server, as one connection shows it. Playbooks compare these values."""

    SERVING = "serving"
    DOWN = "down"  # the host rejects connections: no process listens on the port
    UNREACHABLE = "out of reach"  # no route, no DNS name, or lost packets: the state of the server is unknown
    UNTRUSTED = "not trusted"  # TLS failed: wrong server certificate, or our client certificate was rejected
    UNASKED = "not asked"  # psycopg is missing, or our own credentials cannot be read
    SILENT = "silent"  # the server accepts connections and does not answer: it hangs or is stopped
    NOT_ACCEPTING = "not accepting connections"  # the server starts, recovers, or shuts down
    TOO_MANY_CONNECTIONS = "too many connections"
    WRONG_PASSWORD = "wrong password"  # noqa: S105 - a state, not a secret
    NO_PERMISSION = "no permission"
    NO_DATABASE = "no such database"
    READ_ONLY = "read-only"
    DISK_FULL = "disk full"
    LOCKED = "waiting for a lock"
    POOLED = "behind a pooler"
    UNSUPPORTED = "too old"
    REFUSING = "refusing"
    CONFUSED = "not speaking PostgreSQL"


class PostgresUnreachable(Unreachable):
    """There is no working connection, or it ended before anything was committed."""

    def __init__(self, message: str, state: PostgresState) -> None:
        super().__init__(message)
        self.state = state


class PostgresTimedOut(TimedOut):
    """A statement was sent and not answered."""

    state = PostgresState.SILENT


class PostgresRefused(Refused):
    """PostgreSQL answered with an error; ``state`` is the state that explains it."""

    def __init__(self, message: str, state: PostgresState) -> None:
        super().__init__(message)
        self.state = state


class PostgresBadAnswer(BadAnswer):
    """The answer does not follow the protocol of PostgreSQL."""

    state = PostgresState.CONFUSED


PostgresError = PostgresUnreachable | PostgresTimedOut | PostgresRefused | PostgresBadAnswer


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """The properties that the server reports after the connection."""

    version: str = ""
    standby: bool = False
    """It is in recovery, so it accepts no writes."""
    identity: str = ""
    """System identifier and timeline. A promotion begins a new timeline, and another server has another identifier."""
    reads_statistics: bool = False
    """The role sees the sessions of other roles."""


class PostgresConnection:
    """A connection. Statements are sent one after the other."""

    def __init__(self, endpoint: PostgresEndpoint, connection: Any) -> None:
        self.name = endpoint.name
        self.username = endpoint.username
        self.server = ServerInfo()
        self._connection = connection
        self._seconds = endpoint.timeout.total_seconds()

    async def read(self, text: str, values: Mapping[str, Any] | None = None) -> Rows:
        """Run a statement that changes nothing and return its rows."""
        cursor = await self._execute(text, values, self._seconds, changes=False)
        return list(await cursor.fetchall())

    async def write(self, text: str, values: Mapping[str, Any] | None = None) -> Rows:
        """Run a statement whose effect cannot be rolled back and return its rows. Without an answer it is unknown."""
        cursor = await self._execute(text, values, self._seconds, changes=True)
        return list(await cursor.fetchall())

    async def change(self, text: str, values: Mapping[str, Any] | None = None, *, seconds: float | None = None) -> int:
        """Run a statement inside a transaction that is not committed yet, and return the number of its rows.

        Without an answer nothing is changed, because the connection is closed before COMMIT.
        """
        cursor = await self._execute(text, values, seconds or self._seconds, changes=False)
        return int(cursor.rowcount)

    async def commit(self) -> None:
        """Send COMMIT.

        Raises:
            PostgresRefused: the transaction was rolled back.
            PostgresTimedOut: COMMIT was sent and not answered, so the outcome is unknown.
        """
        cursor = await self._execute("COMMIT", None, self._seconds, changes=True)
        if cursor.statusmessage != "COMMIT":
            raise PostgresRefused(f"{self.name} rolled the transaction back", PostgresState.REFUSING)

    async def _execute(self, text: str, values: Mapping[str, Any] | None, seconds: float, *, changes: bool) -> Any:
        word = text.split(maxsplit=1)[0]
        try:
            async with asyncio.timeout(seconds):
                return await self._connection.execute(text, dict(values or {}))
        except TimeoutError:
            message = f"{self.name} did not answer {word} within {seconds:g} s"
            if changes:
                raise PostgresTimedOut(message) from None
            raise PostgresUnreachable(message, PostgresState.SILENT) from None
        except _driver().Error as error:
            raise self._failure(error, word, changes) from error
        except UnicodeError as error:
            raise PostgresBadAnswer(f"{self.name} sent an invalid answer to {word}: {error}") from error

    def _failure(self, error: Any, word: str, changes: bool) -> PostgresError:
        message = first_line(error)
        severity = getattr(error.diag, "severity_nonlocalized", None)
        if severity == "ERROR":
            state = _BY_CODE.get(error.sqlstate, PostgresState.REFUSING)
            return PostgresRefused(f"{self.name} refused {word}: {message}", state)
        # FATAL also comes after a local commit, if the server is stopped while it waits for its standby
        if changes:
            return PostgresTimedOut(f"{self.name} closed the connection before it answered {word}: {message}")
        state = _BY_CODE.get(error.sqlstate or "", PostgresState.UNREACHABLE)
        return PostgresUnreachable(f"{self.name} closed the connection: {message}", state)


@asynccontextmanager
async def connect(
    endpoint: PostgresEndpoint, *, writes: bool = False, name: str = APPLICATION
) -> AsyncIterator[PostgresConnection]:
    """Open an authenticated connection that reads only, unless ``writes``.

    Raises:
        PostgresUnreachable: there is no connection, or the server does not answer.
        PostgresRefused: the server rejects the connection, is too old, or is behind a pooler.
    """
    raw = await _open(endpoint, _arguments(endpoint, writes=writes, name=name))
    try:
        connection = PostgresConnection(endpoint, raw)
        if raw.pgconn.server_version < _OLDEST:
            why = f"{connection.name} has version {raw.pgconn.server_version // 10_000}; 14 or later is needed"
            raise PostgresRefused(why, PostgresState.UNSUPPORTED)
        (found,) = await connection.read(_SERVER)
        if found["pid"] != raw.pgconn.backend_pid:
            why = "behind a pooler such as PgBouncer: set host and port of the server itself"
            raise PostgresRefused(f"{connection.name} is {why}", PostgresState.POOLED)
        identity = f"{found['system']}/{found['timeline']}"
        connection.server = ServerInfo(found["version"], found["standby"], identity, found["reads_statistics"])
        yield connection
    finally:
        # end the session at once, without an answer from a server that may hang; an open transaction is not
        # committed
        raw.pgconn.finish()


async def _open(endpoint: PostgresEndpoint, arguments: dict[str, Any]) -> Any:
    seconds, driver = endpoint.timeout.total_seconds(), _driver()
    try:
        async with asyncio.timeout(seconds):
            return await _connection_class().connect(**arguments, autocommit=True, prepare_threshold=None)
    except TimeoutError:
        why = f"no connection to {endpoint.name} within {seconds:g} s"
        raise PostgresUnreachable(why, PostgresState.SILENT) from None
    except driver.Error as error:
        raise _not_connected(endpoint, error) from None


def _not_connected(endpoint: PostgresEndpoint, error: Any) -> PostgresError:
    """Return the error for a failed connection. libpq gives no code for it, so the text decides."""
    text = str(error).strip().partition("failed: ")[2] or str(error).strip()
    state = next((state for pattern, state in _BY_TEXT if re.search(pattern, text)), PostgresState.REFUSING)
    message = f"no connection to {endpoint.name}: {text.splitlines()[0]}"
    if state in (PostgresState.DOWN, PostgresState.UNREACHABLE, PostgresState.UNTRUSTED, PostgresState.SILENT):
        return PostgresUnreachable(message, state)
    return PostgresBadAnswer(message) if state is PostgresState.CONFUSED else PostgresRefused(message, state)


_SERVER = """
SELECT pg_backend_pid() AS pid, current_setting('server_version') AS version, pg_is_in_recovery() AS standby,
       (SELECT system_identifier::text FROM pg_control_system()) AS system,
       (SELECT timeline_id FROM pg_control_checkpoint()) AS timeline,
       pg_has_role(current_user, 'pg_read_all_stats', 'USAGE') AS reads_statistics
"""


def _arguments(endpoint: PostgresEndpoint, *, writes: bool, name: str) -> dict[str, Any]:
    """Return the arguments of the connection, after a check that our own files can be used.

    Raises:
        PostgresUnreachable: a file cannot be used, with the state UNASKED. This is no fact about the server.
    """
    milliseconds = round(endpoint.timeout.total_seconds() * 1000)
    settings = {
        "statement_timeout": milliseconds,
        "idle_in_transaction_session_timeout": milliseconds,
        "default_transaction_read_only": "off" if writes else "on",
        "synchronous_commit": "on",  # a commit that is lost after the server reported it would be recorded as done
    }
    arguments: dict[str, Any] = {
        "host": str(endpoint.socket or endpoint.host),
        "port": endpoint.port,
        "dbname": endpoint.database,
        "user": endpoint.username,
        "application_name": name,
        "client_encoding": "UTF8",
        "gssencmode": "disable",
        "sslmode": "disable",
        "options": " ".join(f"-c {key}={value}" for key, value in settings.items()),
    }
    try:
        if endpoint.password_file is not None:
            arguments["password"] = read_secret(endpoint.password_file)
        if (tls := endpoint.tls) is not None:
            for path in filter(None, (tls.ca_file, tls.cert_file, tls.key_file)):
                path.read_bytes()  # libpq does not say which of its files cannot be read
            root = str(tls.ca_file) if tls.ca_file else "system"
            verify = {"sslmode": "verify-full", "sslrootcert": root}
            arguments |= {"sslmode": "require"} if tls.insecure_skip_verify else verify
            own = {"sslcert": tls.cert_file, "sslkey": tls.key_file or tls.cert_file}
            arguments |= {name: str(path) for name, path in own.items() if path}
        return arguments
    except (OSError, ValueError) as error:
        raise PostgresUnreachable(f"nothing was sent to {endpoint.name}: {error}", PostgresState.UNASKED) from None


def _driver() -> ModuleType:
    try:
        import psycopg  # noqa: PLC0415 - only with the extra
    except ImportError:
        raise PostgresUnreachable(MISSING, PostgresState.UNASKED) from None
    return psycopg


@cache
def _connection_class() -> Any:
    """Return a connection class that ends at once when its caller gives up, and that reads any text."""
    psycopg = _driver()
    from psycopg import waiting  # noqa: PLC0415 - only with the extra
    from psycopg.rows import dict_row  # noqa: PLC0415
    from psycopg.types.string import TextLoader  # noqa: PLC0415

    class AnyText(TextLoader):
        # in a database with the encoding SQL_ASCII, the text of a session may not be UTF-8
        def load(self, data: Any) -> str:
            return bytes(data).decode("utf-8", "backslashreplace")

    class Connection(psycopg.AsyncConnection[Any]):  # type: ignore[name-defined,misc]
        @classmethod
        async def connect(cls, *arguments: Any, **options: Any) -> Any:
            made = await super().connect(*arguments, row_factory=dict_row, **options)
            for kind in ("text", "varchar", "name"):
                made.adapters.register_loader(kind, AnyText)
            return made

        async def wait(self, gen: Any, *arguments: Any, **options: Any) -> Any:
            # psycopg would ask the server to cancel and wait for the answer; a hung server does not answer
            try:
                return await waiting.wait_async(gen, self.pgconn.socket, _WAKE)
            except asyncio.CancelledError:
                self.pgconn.finish()
                raise

    return Connection


def first_line(error: BaseException) -> str:
    """Return the first line of an error of psycopg."""
    return str(error).strip().partition("\n")[0] or type(error).__name__


_BY_CODE = {
    "25006": PostgresState.READ_ONLY,
    "28000": PostgresState.NO_PERMISSION,
    "28P01": PostgresState.WRONG_PASSWORD,
    "3D000": PostgresState.NO_DATABASE,
    "42501": PostgresState.NO_PERMISSION,
    "53100": PostgresState.DISK_FULL,
    "53300": PostgresState.TOO_MANY_CONNECTIONS,
    "55P03": PostgresState.LOCKED,
    "57P01": PostgresState.NOT_ACCEPTING,
    "57P02": PostgresState.NOT_ACCEPTING,
    "57P03": PostgresState.NOT_ACCEPTING,
}
_BY_TEXT = (
    ("too many clients|connection slots are reserved|too many connections", PostgresState.TOO_MANY_CONNECTIONS),
    ("password authentication failed|no password supplied", PostgresState.WRONG_PASSWORD),
    (
        "no pg_hba.conf entry|pg_hba.conf rejects|is not permitted to log in|role .* does not exist|permission denied "
        "for database|Peer authentication failed|Ident authentication failed|requires a valid client certificate",
        PostgresState.NO_PERMISSION,
    ),
    ("database .* does not exist|not currently accepting connections", PostgresState.NO_DATABASE),
    ("database system is|not yet accepting connections|shutting down", PostgresState.NOT_ACCEPTING),
    ("certificate|SSL error|does not support SSL|sslmode|TLS", PostgresState.UNTRUSTED),
    ("unsupported startup parameter", PostgresState.POOLED),
    ("Connection refused|No such file or directory", PostgresState.DOWN),
    ("timeout expired", PostgresState.SILENT),
    (
        "translate host name|Name or service not known|No route to host|Network is unreachable|timed out"
        "|Connection reset|failed to resolve host|getaddrinfo|closed the connection unexpectedly",
        PostgresState.UNREACHABLE,
    ),
    ("expected authentication request|received invalid|invalid response", PostgresState.CONFUSED),
)
