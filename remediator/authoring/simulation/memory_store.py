"""A store on one SQLite database in memory, shared by all hosts. It can inject faults into every access.

The transactions are those of production (:mod:`remediator.storage.transaction`). Only the transport is simulated.
"""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections import deque
from collections.abc import Callable
from contextvars import Context
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, TypeVar

import sqlalchemy
from sqlalchemy import Connection
from sqlalchemy.pool import StaticPool

from remediator.audit.redact import PATTERNS_ONLY
from remediator.authoring.simulation.virtual_loop import Host, VirtualLoop
from remediator.core.clock import Clock
from remediator.errors import StoreUnavailable
from remediator.storage import Replacement, Store, Tx, Wakeups
from remediator.storage.migrate import migrate
from remediator.storage.transaction import Job, run_group

T = TypeVar("T")

START = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class StoreFaults:
    """Probability of each fault, for each access."""

    unavailable: float = 0.0
    """The access fails, and nothing is done."""
    lost: float = 0.0
    """The access succeeds, but its answer is lost."""
    crash: float = 0.0
    """The host dies, before or after the commit."""
    stall: float = 0.0
    """The host is paused after the commit, for longer than a lease."""
    slow: float = 0.0
    """The access takes seconds."""
    deaf: float = 0.0
    """A wake-up is lost."""


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


class Database:
    """The database. Only one exists at a time: creating another one empties it."""

    def __init__(self, loop: VirtualLoop, start: datetime = START) -> None:
        engine, self.raw, empty = _engine()
        self.raw.deserialize(empty)
        self.raw.execute("PRAGMA foreign_keys=ON")
        self.connection: Connection = engine.connect()
        self.loop = loop
        self.start = start
        self.stores: list[SimStore] = []
        self.version = 0
        self.after_commit: Callable[[], None] = lambda: None
        self.replaced: Replacement | None = None
        """When a standby took over; see :meth:`fail_over`."""
        self._kept: deque[bytes] | None = None
        self.over = False
        """True after the end of the schedule: nothing is read or written then."""

    @property
    def now(self) -> datetime:
        """Return the time of the database. Its clock has no error."""
        return self.start + timedelta(seconds=self.loop.time())

    def keep_commits(self, number: int) -> None:
        """Keep the last commits, so that a standby can be behind by as many."""
        self._kept = deque(maxlen=number + 1)

    def committed(self) -> None:
        """Note a commit: the standby gets it, and the judge sees it."""
        if self._kept is not None:
            self._kept.append(self.raw.serialize())
        self.after_commit()

    def fail_over(self, lost: int) -> int:
        """Make a standby the primary that is behind by up to ``lost`` commits. Return how many were lost."""
        kept = self._kept or deque()
        lost = min(lost, len(kept) - 1)
        if lost < 1:
            return 0
        self.raw.deserialize(kept[-1 - lost])
        self.raw.execute("PRAGMA foreign_keys=ON")
        self.replaced = Replacement(self.now, lossless=False)
        kept.clear()
        return lost

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()

    def look(self, work: Callable[[Connection], T]) -> T:
        """Read without faults, for the environment and the assertions."""
        return work(self.connection)

    def do(self, work: Callable[[Tx], T]) -> T:
        """Write without faults, for decisions of people."""
        store = SimStore(self, None, random.Random(0), StoreFaults(), _Host(self.loop, None, self.start))  # noqa: S311 - no secrets
        result: T = store.transact(Job(work))
        return result


class SimStore(Store):
    """The store of one host."""

    name = "simulated"
    placeholder = "?"
    redactor = PATTERNS_ONLY

    def __init__(
        self, database: Database, host: Host | None, chance: random.Random, faults: StoreFaults, clock: Clock
    ) -> None:
        self._database = database
        self._host = host
        self._chance = chance
        self._faults = faults
        self._clock = clock
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

    @property
    def replaced(self) -> Replacement | None:  # type: ignore[override]
        """Return when a standby took over; each host finds out when its connection is cut."""
        return self._database.replaced

    def begin(self, connection: Connection) -> None:
        self._database.raw.execute("BEGIN")  # without SQLAlchemy, which would need more time than SQLite

    def now(self, connection: Connection) -> datetime:
        self.clock_offset = self._database.now - self._clock.now()
        return self._database.now

    def monotonic(self) -> float:
        return self._database.loop.time()

    def notify_replicas(self, connection: Connection, topics: set[str]) -> None:
        """Do nothing: :meth:`transact` announces after the commit."""

    async def write(self, work: Callable[[Tx], T]) -> T:
        result: T = await self._transact(Job(work))
        return result

    async def accept(self, source: str, body: bytes) -> None:
        await self._transact(Job(source=source, body=body))

    async def _transact(self, job: Job) -> Any:
        await self._travel()
        crashes = self._chance.random() < self._faults.crash
        if crashes and self._chance.random() < 0.5:
            await self._die()
        if self._chance.random() < self._faults.unavailable:
            raise StoreUnavailable("simulated: nothing was done")
        try:
            result = self.transact(job)
        finally:
            if crashes:
                await self._die()
        if self._host is not None and self._chance.random() < self._faults.stall:
            self._host.paused = True
            loop = self._database.loop
            loop.call_later(self._chance.uniform(5.0, 40.0), loop.resume, self._host, context=Context())
            await asyncio.sleep(0)
        await self._travel()
        if self._chance.random() < self._faults.lost:
            raise StoreUnavailable("simulated: done, but the answer was lost")
        return result

    def transact(self, job: Job) -> Any:
        """Run the job at once and wake the hosts that wait for its topics."""
        topics = run_group(self, self._database.connection, [job])
        self._database.committed()
        if topics:
            for store in self._database.stores:
                if self._chance.random() >= self._faults.deaf:
                    self._database.loop.call_soon(store.wakeups.set, set(topics), context=Context())
        if job.error is not None:
            raise job.error
        return job.result

    async def read(self, work: Callable[[Connection], T]) -> T:
        await self._travel()
        if self._chance.random() < self._faults.unavailable:
            raise StoreUnavailable("simulated: cannot be read")
        self._database.raw.execute("BEGIN")
        try:
            result = work(self._database.connection)
        finally:
            self._database.raw.execute("ROLLBACK")
        await self._travel()
        return result

    async def _travel(self) -> None:
        if self._database.over:
            raise asyncio.CancelledError
        await asyncio.sleep(0)
        if self._chance.random() < self._faults.slow:
            await asyncio.sleep(self._chance.choice((0.05, 0.5, 3.0, 8.0)))

    async def _die(self) -> None:
        if self._host is not None:
            self._host.alive = False
            await asyncio.get_running_loop().create_future()

    async def close(self) -> None:
        """Do nothing: :class:`Database` owns the connection."""


class _Host:
    """The clock of a host: the true time plus the clock error of the host."""

    def __init__(self, loop: VirtualLoop, host: Host | None, start: datetime) -> None:
        self._loop = loop
        self._start = start
        self._host = host

    def now(self) -> datetime:
        wrong = 0.0 if self._host is None else self._host.offset
        return self._start + timedelta(seconds=self._loop.time() + wrong)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def clock_of(loop: VirtualLoop, host: Host, start: datetime = START) -> Clock:
    """Return the clock of a host."""
    return _Host(loop, host, start)
