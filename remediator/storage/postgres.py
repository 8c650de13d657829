"""PostgreSQL store: any number of replicas on one database. It has the clock; wake-ups use LISTEN/NOTIFY."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any, TypeVar

import sqlalchemy
import sqlalchemy.exc
from sqlalchemy import Connection, event

from remediator.audit import Redactor
from remediator.core.clock import Clock, SystemClock, from_micros
from remediator.errors import StoreUnavailable
from remediator.storage import Store, Tx, Wakeups
from remediator.storage.group_commit import GroupCommit
from remediator.storage.migrate import require_current
from remediator.storage.schema import metadata
from remediator.storage.transaction import to_store_error

T = TypeVar("T")

CHANNEL = "remediator"
# A replica that is paused inside a transaction must not keep its locks.
_OPTIONS = "-c lock_timeout=10000 -c statement_timeout=30000 -c idle_in_transaction_session_timeout=15000"
# A commit is fsynced, whatever default the server or the role has.
SYNCHRONOUS_COMMIT = (
    "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"
)
# Detect within 25 s a server that is gone without closing the connection; the kernel's default is 15 minutes.
_KEEPALIVE: dict[str, Any] = {
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 25_000,
}
_MAY_USE_SEQUENCES = """
SELECT coalesce(bool_and(has_sequence_privilege(s.oid, 'USAGE')), true)
FROM pg_depend d JOIN pg_class t ON t.oid = d.refobjid JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S'
WHERE d.deptype = 'a' AND t.relname = ANY(%s) AND pg_table_is_visible(t.oid)
"""
_PRIVILEGES = ("SELECT", "INSERT", "UPDATE", "DELETE")


class PostgresStore(Store):
    """A store in a PostgreSQL database that is shared with other replicas.

    Args:
        url: see :func:`remediator.storage.url.parse_postgresql_url`.
        clock: the clock of this host, which is compared with the time of the database.

    Raises:
        StoreUnavailable: the server is unreachable, or the required privileges are missing.
        StoreCorrupt: the schema is not this version's; ``remediator db migrate`` migrates it.
    """

    name = "postgresql"

    def __init__(self, url: sqlalchemy.URL, clock: Clock | None = None, redactor: Redactor | None = None) -> None:
        self._clock = clock or SystemClock()
        self.redactor = redactor or Redactor()
        self.wakeups = Wakeups()
        self._url = url
        self._engine = sqlalchemy.create_engine(
            self._url,
            isolation_level="AUTOCOMMIT",  # the writer sends BEGIN and COMMIT itself
            pool_size=4,
            max_overflow=4,
            pool_pre_ping=True,
            connect_args={"connect_timeout": 5, "options": _OPTIONS, **_KEEPALIVE},
        )
        event.listen(self._engine, "connect", _replace_zero_bytes)
        try:
            with self.connect() as connection:
                self._check_usable(connection)
            self._writer = GroupCommit(self, self.wakeups)
        except BaseException:
            self._engine.dispose()
            raise
        self._readers = ThreadPoolExecutor(4, thread_name_prefix="postgres-reader")
        self._listener: _Listener | None = None

    begin_statement = "BEGIN"
    placeholder = "%s"

    def connect(self) -> Connection:
        """Return the writer's connection; see :class:`remediator.storage.transaction.Dialect`."""
        try:
            connection = self._engine.connect()
            connection.exec_driver_sql(SYNCHRONOUS_COMMIT)
            return connection
        except sqlalchemy.exc.DBAPIError as error:
            host = self._url.host or self._url.query.get("host", "its socket")
            raise StoreUnavailable(f"PostgreSQL at {host} cannot be used: {_first_line(error)}") from error

    def _check_usable(self, connection: Connection) -> None:
        """Check schema, read-only mode and privileges at the start, rather than at the first write."""
        privileges = "SELECT " + " AND ".join(f"has_table_privilege(%s, '{name}')" for name in _PRIVILEGES)
        try:
            require_current(connection)
            if connection.exec_driver_sql("SHOW transaction_read_only").scalar() == "on":
                raise StoreUnavailable("PostgreSQL is read-only, probably a standby; configure the URL of the primary")
            missing = [
                table
                for table in metadata.tables
                if not connection.exec_driver_sql(privileges, (table,) * len(_PRIVILEGES)).scalar()
            ]
            if not connection.exec_driver_sql(_MAY_USE_SEQUENCES, (list(metadata.tables),)).scalar():
                missing.append("the sequences")
            self.now(connection)
        except sqlalchemy.exc.DBAPIError as error:
            raise StoreUnavailable(f"PostgreSQL refuses access: {_first_line(error)}; GRANT the privileges") from error
        if missing:
            user, names = self._url.username or "this user", ", ".join(_PRIVILEGES)
            raise StoreUnavailable(
                f"PostgreSQL: {user} may not use {missing[0]}; GRANT {names} ON ALL TABLES "
                f"and USAGE ON ALL SEQUENCES IN SCHEMA public TO {user}"
            )

    def now(self, connection: Connection) -> datetime:
        micros = connection.exec_driver_sql(
            "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
        ).scalar_one()
        now = from_micros(micros)
        self.clock_offset = now - self._clock.now()
        return now

    def monotonic(self) -> float:
        return time.monotonic()

    def notify_replicas(self, connection: Connection, topics: set[str]) -> None:
        for topic in sorted(topics):
            connection.exec_driver_sql("SELECT pg_notify(%s, %s)", (CHANNEL, topic))

    async def write(self, work: Callable[[Tx], T]) -> T:
        if self._listener is None:  # it needs the running event loop
            self._listener = _Listener(self._url, asyncio.get_running_loop(), self.wakeups)
        result: T = await self._writer.write(work)
        return result

    async def accept(self, source: str, body: bytes) -> None:
        await self._writer.accept(source, body)

    async def read(self, work: Callable[[Connection], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._read, work)

    def _read(self, work: Callable[[Connection], T]) -> T:
        try:
            with self._engine.connect() as connection:
                connection.exec_driver_sql("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
                try:
                    return work(connection)
                finally:
                    connection.exec_driver_sql("ROLLBACK")
        except sqlalchemy.exc.DBAPIError as error:
            raise to_store_error(error) from error

    async def close(self) -> None:
        if self._listener is not None:
            await asyncio.to_thread(self._listener.close)
        await self._writer.close()
        self._readers.shutdown()
        self._engine.dispose()


def _replace_zero_bytes(connection: Any, record: Any) -> None:
    """Store text with U+FFFD in place of zero bytes, which PostgreSQL refuses.

    A label or a log line may contain a zero byte. A notification that can never be written would block all later ones.
    """
    from psycopg.types.string import StrDumperUnknown  # noqa: PLC0415 - only with the extra

    class AnyText(StrDumperUnknown):
        def dump(self, obj: str) -> Any:
            return super().dump(obj.replace("\x00", "\ufffd"))

    connection.adapters.register_dumper(str, AnyText)


class _Listener:
    """A thread with its own connection that turns NOTIFY into wake-ups; it reconnects until it is closed."""

    def __init__(self, url: sqlalchemy.URL, loop: asyncio.AbstractEventLoop, wakeups: Wakeups) -> None:
        self._url = url.set(drivername="postgresql").render_as_string(hide_password=False)
        self._loop = loop
        self._wakeups = wakeups
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="postgres-listener", daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        import psycopg  # noqa: PLC0415 - only with the extra

        while not self._closed.is_set():
            try:
                with psycopg.connect(self._url, autocommit=True, connect_timeout=5, **_KEEPALIVE) as connection:
                    connection.execute(f"LISTEN {CHANNEL}")
                    while not self._closed.is_set():
                        for notice in connection.notifies(timeout=0.5):
                            self._loop.call_soon_threadsafe(self._wakeups.set, {notice.payload})
            except psycopg.Error:
                self._closed.wait(1.0)  # the loops poll as well, so a lost wake-up only costs time

    def close(self) -> None:
        self._closed.set()
        self._thread.join()


def _first_line(error: sqlalchemy.exc.DBAPIError) -> str:
    return str(error.orig).strip().splitlines()[0]
