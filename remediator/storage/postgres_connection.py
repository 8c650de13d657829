"""Connections to PostgreSQL, also where a pooler such as PgBouncer is in front of it.

A pooler may give each transaction another server connection. The state of a session is then not reliable: no settings
of the session, no prepared statements, no LISTEN. Therefore no connection prepares statements, and a connection through
a pooler sets its timeouts in each transaction.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import sqlalchemy
import sqlalchemy.exc
from sqlalchemy import Connection, event, text

from remediator.storage.prepared import Prepared

ANSWER_TIMEOUT = 45.0
"""Seconds to wait for the answer to one statement.

The server ends a statement after 30 s. So a server without an answer hangs, or waits for a standby that does not
confirm a commit. The statement may have been executed.
"""
# A replica that is paused inside a transaction must not keep its locks. Values in milliseconds.
_TIMEOUTS = {"lock_timeout": 10_000, "statement_timeout": 30_000, "idle_in_transaction_session_timeout": 15_000}
# Detect within 25 s a server that is gone without closing the connection; the kernel's default is 15 minutes.
_KEEPALIVE: dict[str, Any] = {
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 25_000,
}
CONNECT_ARGUMENTS: dict[str, Any] = {
    "connect_timeout": 5,
    "prepare_threshold": None,
    "fallback_application_name": "remediator",  # a playbook never ends the sessions of the store
    **_KEEPALIVE,
}
"""Arguments of psycopg's ``connect``. ``prepare_threshold`` None: no prepared statements."""
# A commit is fsynced, whatever default the server or the role has. The placeholder is set_config's is_local: true for
# this transaction, false for the session.
_SYNCHRONOUS = "SELECT set_config('synchronous_commit', 'on', {}) WHERE current_setting('synchronous_commit') = 'off'"
_SET_SESSION = "; ".join(f"SET {name} = {value}" for name, value in _TIMEOUTS.items())
_SET_TRANSACTION = "; ".join(f"SET LOCAL {name} = {value}" for name, value in _TIMEOUTS.items())
_POOLED = "pooled"
_PROBES = 3


def create_engine(url: sqlalchemy.URL, **options: Any) -> sqlalchemy.Engine:
    """Return an engine in autocommit mode; the caller sends BEGIN and COMMIT, see :func:`begin`.

    Args:
        url: see :func:`remediator.storage.url.parse_postgresql_url`.
        options: of ``sqlalchemy.create_engine``, for example the size of the pool.
    """
    engine = sqlalchemy.create_engine(
        url, isolation_level="AUTOCOMMIT", pool_pre_ping=True, connect_args=CONNECT_ARGUMENTS, **options
    )
    event.listen(engine, "do_connect", _connect)
    event.listen(engine, "connect", _prepare_or_close)
    return engine


def _connect(dialect: Any, record: Any, arguments: Any, options: Any) -> Any:
    """Connect so that no statement waits forever for its answer."""
    import psycopg  # noqa: PLC0415 - only with the extra

    class BoundedConnection(psycopg.Connection[Any]):
        def wait(self, gen: Any, *args: Any, **more: Any) -> Any:
            try:
                return super().wait(gen, *args, **{"timeout": ANSWER_TIMEOUT, **more})
            except psycopg.OperationalError as error:
                if self.pgconn.status == psycopg.pq.ConnStatus.OK and not getattr(error, "sqlstate", None):
                    self.pgconn.finish()  # a late answer would be taken for the answer of the next statement
                raise

    return BoundedConnection.connect(*arguments, autocommit=True, **options)


def _prepare_or_close(connection: Any, record: Any) -> None:
    try:
        _prepare(connection, record)
    except BaseException:
        connection.close()  # the pool does not know it yet
        raise


def _prepare(connection: Any, record: Any) -> None:
    """Set up a new connection, and find out whether a pooler is in front of the server."""
    from psycopg.types.string import StrDumperUnknown  # noqa: PLC0415 - only with the extra

    class AnyText(StrDumperUnknown):
        # Store text with U+FFFD in place of zero bytes, which PostgreSQL refuses. A label or a log line may contain
        # one, and a notification that can never be written would block all later ones.
        def dump(self, obj: str) -> Any:
            return super().dump(obj.replace("\x00", "\ufffd"))

    connection.adapters.register_dumper(str, AnyText)
    record.info[_POOLED] = has_other_process(connection)
    if not record.info[_POOLED]:
        connection.execute(_SET_SESSION)
        connection.execute(_SYNCHRONOUS.format("false"))


def has_other_process(connection: Any) -> bool:
    """Return whether a connection of psycopg goes through a pooler: it makes up the process ID that it reports."""
    return bool(connection.pgconn.backend_pid != _server_process(connection))


def is_pooled(connection: Connection) -> bool:
    """Return whether a connection goes through a pooler."""
    return bool(connection.info.get(_POOLED))


def begin(connection: Connection, mode: str = "") -> None:
    """Begin a transaction that has the timeouts, and whose commit is fsynced.

    Args:
        connection: of an engine of :func:`create_engine`.
        mode: the modes of the transaction, for example ``READ ONLY``.
    """
    connection.execute(_begin(mode, pooled=is_pooled(connection)))


@cache
def _begin(mode: str, *, pooled: bool) -> Prepared:
    statement = f"BEGIN {mode}".rstrip()
    return Prepared(text(f"{statement}; {_SET_TRANSACTION}; {_SYNCHRONOUS.format('true')}" if pooled else statement))


def keeps_session(connection: Connection, other: Connection) -> bool:
    """Return whether a pooler gives a client one server connection for as long as it is connected (session mode).

    Args:
        connection: a connection through the pooler.
        other: another connection through the same pooler.
    """
    return keeps_server_process(connection.connection.driver_connection, other.connection.driver_connection)


def keeps_server_process(connection: Any, other: Any) -> bool:
    """As :func:`keeps_session`, for two connections of psycopg.

    The other modes give the server connection of an idle client to the next one. Suppose that another client is in a
    transaction. Then either it has the server connection that this client had, or this client now gets a new one.
    """
    for _ in range(_PROBES):
        first = _server_process(connection)
        with other.transaction():
            if _server_process(other) == first or _server_process(connection) != first:
                return False
    return True


def _server_process(connection: Any) -> int:
    """Return the process ID of the server connection that a connection of psycopg has now."""
    (found,) = connection.execute("SELECT pg_backend_pid()").fetchone()
    return int(found)


def first_line(error: sqlalchemy.exc.DBAPIError) -> str:
    """Return the first line of an error of the database."""
    return str(error.orig).strip().splitlines()[0]
