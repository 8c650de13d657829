"""A store on one SQLite database in memory, with the clock of the event loop.

The transactions are the production code (:mod:`remediator.storage.transaction`). Only the transport is simulated.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from contextvars import Context
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, TypeVar

import sqlalchemy
from sqlalchemy import Connection
from sqlalchemy.pool import StaticPool

from remediator.audit.redact import PATTERNS_ONLY
from remediator.authoring.simulation.virtual_loop import VirtualLoop
from remediator.storage import Store, Tx, Wakeups
from remediator.storage.migrate import migrate
from remediator.storage.transaction import Job, run_group

T = TypeVar("T")

START = datetime(2026, 1, 1, tzinfo=UTC)


@cache
def _engine() -> tuple[sqlalchemy.Engine, sqlite3.Connection, bytes]:
    raw = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    raw.execute("PRAGMA foreign_keys=ON")
    engine = sqlalchemy.create_engine(
        "sqlite://", creator=lambda: raw, poolclass=StaticPool, isolation_level="AUTOCOMMIT"
    )
    with engine.connect() as connection:
        migrate(connection)
    return engine, raw, raw.serialize()


class LoopClock:
    """The virtual time of the loop, from a start."""

    def __init__(self, loop: VirtualLoop, start: datetime = START) -> None:
        self._loop = loop
        self._start = start

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self._loop.time())

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class Database:
    """The database. Only one database exists at a time: creating another database empties the first."""

    def __init__(self, loop: VirtualLoop, start: datetime = START) -> None:
        engine, self.raw, empty = _engine()
        self.raw.deserialize(empty)
        self.raw.execute("PRAGMA foreign_keys=ON")
        self.connection: Connection = engine.connect()
        self.loop = loop
        self.clock = LoopClock(loop, start)
        self.stores: list[MemoryStore] = []
        self.version = 0

    @property
    def now(self) -> datetime:
        """Return the time of the database. Its clock has no error."""
        return self.clock.now()

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()

    def look(self, work: Callable[[Connection], T]) -> T:
        """Read at once, for the environment and the assertions."""
        return work(self.connection)

    def do(self, work: Callable[[Tx], T]) -> T:
        """Write at once, for decisions of people."""
        result: T = MemoryStore(self).transact(Job(work))
        return result


class MemoryStore(Store):
    """The store of one host."""

    name = "simulated"
    placeholder = "?"
    redactor = PATTERNS_ONLY

    def __init__(self, database: Database) -> None:
        self._database = database
        self.wakeups = Wakeups()

    @property
    def version(self) -> int | None:
        return self._database.version

    def version_inside(self, connection: Connection) -> int | None:
        return self._database.version

    def count_change(self) -> None:
        self._database.version += 1

    def connect(self) -> Connection:
        return self._database.connection

    def begin(self, connection: Connection) -> None:
        self._database.raw.execute("BEGIN")  # do not use SQLAlchemy: it would need more time than SQLite

    def now(self, connection: Connection) -> datetime:
        return self._database.now

    def monotonic(self) -> float:
        return self._database.loop.time()

    def notify_replicas(self, connection: Connection, topics: set[str]) -> None:
        """Do nothing: :meth:`transact` announces after the commit."""

    async def write(self, work: Callable[[Tx], T]) -> T:
        result: T = await self.perform(Job(work))
        return result

    async def accept(self, source: str, body: bytes) -> None:
        await self.perform(Job(source=source, body=body))

    async def perform(self, job: Job) -> Any:
        """Send the job to the database, and return its result."""
        await self.travel()
        result = self.transact(job)
        await self.travel()
        return result

    def transact(self, job: Job) -> Any:
        """Run the job at once and wake the hosts that wait for its topics."""
        topics = run_group(self, self._database.connection, [job])
        if topics:
            for store in self._database.stores:
                self.wake(store, topics)
        if job.error is not None:
            raise job.error
        return job.result

    def wake(self, store: MemoryStore, topics: set[str]) -> None:
        """Wake a host that waits for one of the topics."""
        self._database.loop.call_soon(store.wakeups.set, set(topics), context=Context())

    async def read(self, work: Callable[[Connection], T]) -> T:
        await self.travel()
        result = self.snapshot(work)
        await self.travel()
        return result

    def snapshot(self, work: Callable[[Connection], T]) -> T:
        """Run the work at once on the committed data."""
        self._database.raw.execute("BEGIN")
        try:
            return work(self._database.connection)
        finally:
            self._database.raw.execute("ROLLBACK")

    async def travel(self) -> None:
        """Let the other tasks run while a request or an answer is on its way."""
        await asyncio.sleep(0)

    async def close(self) -> None:
        """Do nothing: :class:`Database` owns the connection."""
