"""PostgreSQL: any number of replicas on one database. Time is the database's, wake-ups are LISTEN/NOTIFY."""

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
# a replica that is paused in the middle of a transaction must not keep its locks from the others
_OPTIONS = "-c lock_timeout=10000 -c statement_timeout=30000 -c idle_in_transaction_session_timeout=15000"
# what is committed is on disk, whatever the server or the role has for a default
_SYNCED = "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"
# a server whose host is gone without a word is given up in half a minute, not in the kernel's quarter of an hour
_ALIVE: dict[str, Any] = {
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 25_000,
}
_MAY_NUMBER = """
SELECT coalesce(bool_and(has_sequence_privilege(s.oid, 'USAGE')), true)
FROM pg_depend d JOIN pg_class t ON t.oid = d.refobjid JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S'
WHERE d.deptype = 'a' AND t.relname = ANY(%s) AND pg_table_is_visible(t.oid)
"""
_RIGHTS = ("SELECT", "INSERT", "UPDATE", "DELETE")


class PostgresStore(Store):
    """A store in a PostgreSQL database that is shared with other replicas.

    Args:
        url: see :func:`remediator.storage.url.postgresql`.
        clock: this host's, compared with the database's.

    Raises:
        StoreUnavailable: unreachable, or without the rights that are needed.
        StoreCorrupt: its schema is not this version's; ``remediator db migrate`` brings it forward.
    """

    name = "postgresql"

    def __init__(self, url: sqlalchemy.URL, clock: Clock | None = None, redactor: Redactor | None = None) -> None:
        self._clock = clock or SystemClock()
        self.redactor = redactor or Redactor()
        self.wakeups = Wakeups()
        self._url = url
        self._engine = sqlalchemy.create_engine(
            self._url,
            isolation_level="AUTOCOMMIT",  # the gate says BEGIN and COMMIT itself
            pool_size=4,
            max_overflow=4,
            pool_pre_ping=True,
            connect_args={"connect_timeout": 5, "options": _OPTIONS, **_ALIVE},
        )
        event.listen(self._engine, "connect", _take_any_text)
        try:
            with self.connect() as connection:
                self._ask(connection)
            self._gate = GroupCommit(self, self.wakeups)
        except BaseException:
            self._engine.dispose()
            raise
        self._readers = ThreadPoolExecutor(4, thread_name_prefix="postgres-reader")
        self._listener: _Listener | None = None

    begin = "BEGIN"
    mark = "%s"

    @property
    def _where(self) -> str:
        return str(self._url.host or self._url.query.get("host", "its socket"))

    def connect(self) -> Connection:
        """The gate's connection; see :class:`remediator.storage.transaction.Dialect`."""
        try:
            connection = self._engine.connect()
            connection.exec_driver_sql(_SYNCED)
            return connection
        except sqlalchemy.exc.DBAPIError as error:
            raise StoreUnavailable(f"PostgreSQL at {self._where} cannot be used: {_first_line(error)}") from error

    def _ask(self, connection: Connection) -> None:
        """Whether everything can be done here that has to be."""
        try:
            require_current(connection)
            if connection.exec_driver_sql("SHOW transaction_read_only").scalar() == "on":
                raise StoreUnavailable("PostgreSQL is read only: a standby? give the URL of the primary")
            missing = [name for name in metadata.tables if not self._may(connection, name)]
            numbers = connection.exec_driver_sql(_MAY_NUMBER, (list(metadata.tables),)).scalar()
            missing += [] if numbers else ["the sequences"]
            self.now(connection)
        except sqlalchemy.exc.DBAPIError as error:
            raise StoreUnavailable(f"PostgreSQL does not let us: {_first_line(error)}; GRANT the rights") from error
        if missing:
            who, rights = self._url.username or "this user", ", ".join(_RIGHTS)
            raise StoreUnavailable(
                f"PostgreSQL: {who} may not use {missing[0]}; GRANT {rights} ON ALL TABLES "
                f"and USAGE ON ALL SEQUENCES IN SCHEMA public TO {who}"
            )

    def _may(self, connection: Connection, table: str) -> bool:
        asked = "SELECT " + " AND ".join(f"has_table_privilege(%s, '{right}')" for right in _RIGHTS)
        return bool(connection.exec_driver_sql(asked, (table,) * len(_RIGHTS)).scalar())

    def now(self, connection: Connection) -> datetime:
        micros = connection.exec_driver_sql(
            "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
        ).scalar_one()
        now = from_micros(micros)
        self.clock_offset = now - self._clock.now()
        return now

    def ticks(self) -> float:
        return time.monotonic()

    def announce(self, connection: Connection, topics: set[str]) -> None:
        for topic in sorted(topics):
            connection.exec_driver_sql("SELECT pg_notify(%s, %s)", (CHANNEL, topic))

    async def write(self, work: Callable[[Tx], T]) -> T:
        self._listen()
        result: T = await self._gate.write(work)
        return result

    async def accept(self, source: str, body: bytes) -> None:
        await self._gate.accept(source, body)

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

    def _listen(self) -> None:
        if self._listener is None:
            self._listener = _Listener(self._url, asyncio.get_running_loop(), self.wakeups)

    async def close(self) -> None:
        if self._listener is not None:
            await asyncio.to_thread(self._listener.close)
        await self._gate.close()
        self._readers.shutdown()
        self._engine.dispose()


def _take_any_text(connection: Any, record: Any) -> None:
    """PostgreSQL refuses text with a zero byte. A label or a line of some log may have one, and a notification that
    can never be written would stand in the way of all that come after it: kept is the sign for what has no sign."""
    from psycopg.types.string import StrDumperUnknown  # noqa: PLC0415 - only with the extra

    class AnyText(StrDumperUnknown):
        def dump(self, obj: str) -> Any:
            return super().dump(obj.replace("\x00", "\ufffd"))

    connection.adapters.register_dumper(str, AnyText)


class _Listener:
    """A thread on a connection of its own that turns NOTIFY into wake-ups; it reconnects for as long as it lives."""

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
                with psycopg.connect(self._url, autocommit=True, connect_timeout=5, **_ALIVE) as connection:
                    connection.execute(f"LISTEN {CHANNEL}")
                    self._relay(connection)
            except psycopg.Error:
                self._closed.wait(1.0)  # polling goes on meanwhile; nothing is lost by missing a wake-up

    def _relay(self, connection: Any) -> None:
        while not self._closed.is_set():
            for notice in connection.notifies(timeout=0.5):
                self._loop.call_soon_threadsafe(self._wakeups.set, {notice.payload})

    def close(self) -> None:
        self._closed.set()
        self._thread.join()


def _first_line(error: sqlalchemy.exc.DBAPIError) -> str:
    return str(error.orig).strip().splitlines()[0]
