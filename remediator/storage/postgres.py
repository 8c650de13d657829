"""PostgreSQL store: any number of replicas on one database. It has the clock; wake-ups use LISTEN/NOTIFY."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

import sqlalchemy
import sqlalchemy.exc
import structlog
from sqlalchemy import BigInteger, Connection, bindparam, cast, extract, func, select

from remediator.audit import Redactor
from remediator.core.clock import Clock, SystemClock, from_micros
from remediator.errors import StoreUnavailable
from remediator.storage import Store, Tx, Wakeups, postgres_connection, replacement
from remediator.storage.grants import FIX, role_power, table_rights
from remediator.storage.group_commit import GroupCommit
from remediator.storage.migrate import require_current
from remediator.storage.postgres_connection import first_line
from remediator.storage.postgres_replication import failover_risk, incarnation, is_synchronous, server
from remediator.storage.prepared import Prepared
from remediator.storage.schema import metadata
from remediator.storage.transaction import ROLLBACK, BeginFailed, Job, commit, to_store_error

T = TypeVar("T")
log: Any = structlog.get_logger("remediator.storage.postgres")

CHANNEL = "remediator"
_NOW = Prepared(select(cast(extract("epoch", func.clock_timestamp()) * 1_000_000, BigInteger)))
_NOTIFY = Prepared(select(func.pg_notify(bindparam("channel"), bindparam("topic"))))
_LISTEN_AGAIN = 60.0  # seconds until a pooler that does not keep the session is tried again
_MAY_USE_SEQUENCES = """
SELECT coalesce(bool_and(has_sequence_privilege(s.oid, 'USAGE')), true)
FROM pg_depend d JOIN pg_class t ON t.oid = d.refobjid JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S'
WHERE d.deptype = 'a' AND t.relname = ANY(%s) AND pg_table_is_visible(t.oid)
"""


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
        self._engine = postgres_connection.create_engine(url, pool_size=4, max_overflow=4)
        self._incarnation: replacement.Incarnation | None = None
        self._is_migrated = False
        try:
            with self.connect() as connection:
                self._check_usable(connection)
                self._is_migrated = True
                self.description = self._describe(connection)
            self._writer = GroupCommit(self, self.wakeups)
        except BaseException:
            self._engine.dispose()
            raise
        self._readers = ThreadPoolExecutor(4, thread_name_prefix="postgres-reader")
        self._viewers = ThreadPoolExecutor(2, thread_name_prefix="postgres-viewer")
        self._listener: _Listener | None = None

    placeholder = "%s"

    def connect(self) -> Connection:
        """Return the writer's connection; see :class:`remediator.storage.transaction.Dialect`."""
        try:
            connection = self._engine.connect()
            try:
                self._check_incarnation(connection)
            except BaseException:
                connection.close()
                raise
            return connection
        except sqlalchemy.exc.DBAPIError as error:
            host = self._url.host or self._url.query.get("host", "its socket")
            raise StoreUnavailable(f"PostgreSQL at {host} cannot be used: {first_line(error)}") from error

    def _check_incarnation(self, connection: Connection) -> None:
        """Find out whether this is another server than before, and record it before anything else is written.

        A failover cuts all connections, so each replica comes here before it uses the new primary. A pooler may keep
        the client's connection, so there each transaction compares the server, see :meth:`begin`.
        """
        if not self._is_migrated:
            return
        found, before = incarnation(connection), self._incarnation
        if found != before:
            self._incarnation = None  # this transaction is the one that may begin on another server
            try:
                job = Job(partial(_record_incarnation, remembered=before))
                commit(self, connection, [job])
                if job.error is not None:
                    raise StoreUnavailable(f"the failover of PostgreSQL cannot be recorded: {job.error}") from job.error
            except BaseException:
                self._incarnation = before
                raise
            self._incarnation = found
        self.replaced = replacement.last(connection)

    def begin(self, connection: Connection) -> None:
        postgres_connection.begin(connection)
        known = self._incarnation
        if known is not None and postgres_connection.is_pooled(connection) and server(connection) != known.server:
            connection.exec_driver_sql("ROLLBACK")
            raise BeginFailed("the pooler is connected to another server than before")

    def _describe(self, connection: Connection) -> str:
        """Return the name of the store, with the pooler that is in front of it.

        Raises:
            StoreUnavailable: the pooler gives one statement at a time a server connection, or one client at a time.
        """
        if not postgres_connection.is_pooled(connection):
            return self.name
        try:
            postgres_connection.begin(connection)
            connection.exec_driver_sql("ROLLBACK")
            with self._engine.connect() as other:
                session = postgres_connection.keeps_session(connection, other)
        except sqlalchemy.exc.DBAPIError as error:
            raise StoreUnavailable(
                f"the pooler in front of PostgreSQL cannot be used: {first_line(error)}; set its pool_mode to session "
                "or transaction and its pool size to at least 10"
            ) from error
        return f"{self.name} through a pooler in {'session' if session else 'transaction'} mode"

    def _check_usable(self, connection: Connection) -> None:
        """Check schema, read-only mode and privileges at the start, rather than at the first write."""
        try:
            require_current(connection)
            if connection.exec_driver_sql("SHOW transaction_read_only").scalar() == "on":
                raise StoreUnavailable("PostgreSQL is read-only, probably a standby; configure the URL of the primary")
            missing = [
                f"{right} on {table}"
                for table in metadata.tables
                for right in table_rights(table)
                if not connection.exec_driver_sql("SELECT has_table_privilege(%s, %s)", (table, right)).scalar()
            ]
            if not connection.exec_driver_sql(_MAY_USE_SEQUENCES, (list(metadata.tables),)).scalar():
                missing.append("USAGE on the sequences")
            self.now(connection)
            power = role_power(connection)
        except sqlalchemy.exc.DBAPIError as error:
            raise StoreUnavailable(f"PostgreSQL refuses access: {first_line(error)}; GRANT the privileges") from error
        if missing:
            raise StoreUnavailable(
                f"PostgreSQL: the role {power.role!r} lacks the right {missing[0]}; "
                f"run 'remediator db grant {power.role}' with the URL of the owner of the tables"
            )
        if power.problem:
            log.warning(power.problem, fix=FIX)

    def now(self, connection: Connection) -> datetime:
        micros = connection.execute(_NOW).scalar_one()
        now = from_micros(micros)
        self.clock_offset = now - self._clock.now()
        return now

    def version_inside(self, connection: Connection) -> int | None:
        """Return None: other replicas write too."""
        return None

    def monotonic(self) -> float:
        return time.monotonic()

    def notify_replicas(self, connection: Connection, topics: set[str]) -> None:
        for topic in sorted(topics):
            connection.execute(_NOTIFY, {"channel": CHANNEL, "topic": topic})

    async def write(self, work: Callable[[Tx], T]) -> T:
        if self._listener is None:  # the listener needs the running event loop
            self._listener = _Listener(self._url, asyncio.get_running_loop(), self.wakeups)
        result: T = await self._writer.write(work)
        return result

    async def accept(self, source: str, body: bytes) -> None:
        await self._writer.accept(source, body)

    async def read(self, work: Callable[[Connection], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._read, work)

    async def view(self, work: Callable[[Connection], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._viewers, self._read, work)

    def _read(self, work: Callable[[Connection], T]) -> T:
        try:
            with self._engine.connect() as connection:
                postgres_connection.begin(connection, "ISOLATION LEVEL REPEATABLE READ READ ONLY")
                try:
                    return work(connection)
                finally:
                    connection.execute(ROLLBACK)
        except sqlalchemy.exc.DBAPIError as error:
            raise to_store_error(error) from error

    async def failover_risk(self) -> str:
        """Return why a failover could lose commits, and record whether it could, for after the failover."""
        known = self._incarnation
        if known is not None and await self.read(is_synchronous) is not known.synchronous:
            self._incarnation = await self.write(_record_incarnation)
        return await self.read(failover_risk)

    async def close(self) -> None:
        if self._listener is not None:
            await asyncio.to_thread(self._listener.close)
        await self._writer.close()
        self._readers.shutdown()
        self._viewers.shutdown()
        self._engine.dispose()


def _record_incarnation(tx: Tx, remembered: replacement.Incarnation | None = None) -> replacement.Incarnation:
    found = incarnation(tx.connection)
    replacement.record_if_new(tx, found, remembered)
    return found


class _Listener:
    """A thread with its own connection that turns NOTIFY into wake-ups; it reconnects until it is closed.

    Through a pooler, LISTEN works only if this client keeps its server connection, which is checked on each connection.
    Otherwise the loops poll.
    """

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
                with self._connect() as connection:
                    if not self._can_listen(connection):
                        self._closed.wait(_LISTEN_AGAIN)
                        continue
                    connection.execute(f"LISTEN {CHANNEL}")
                    while not self._closed.is_set():
                        for notice in connection.notifies(timeout=0.5):
                            self._loop.call_soon_threadsafe(self._wakeups.set, {notice.payload})
            except psycopg.Error:
                self._closed.wait(1.0)  # the loops poll as well, so a lost wake-up only costs time

    def _connect(self) -> Any:
        import psycopg  # noqa: PLC0415 - only with the extra

        return psycopg.connect(self._url, autocommit=True, **postgres_connection.CONNECT_ARGUMENTS)

    def _can_listen(self, connection: Any) -> bool:
        if not postgres_connection.has_other_process(connection):
            return True
        with self._connect() as other:
            return postgres_connection.keeps_server_process(connection, other)

    def close(self) -> None:
        self._closed.set()
        self._thread.join()
