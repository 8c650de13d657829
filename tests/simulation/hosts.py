"""Hosts that are paused and killed, and a store that fails: the event loop and the database of ``remediator test`` with
faults.

Every callback belongs to a host (a process that can be paused or killed) or to the environment. Callbacks of a paused
host wait until the host resumes. Callbacks of a dead host never run. A crash can therefore happen between any two steps
of a task, and no ``finally`` block runs then, as after a SIGKILL.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable
from contextvars import Context, ContextVar
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar

from sqlalchemy import Connection

from remediator.authoring.simulation.memory_store import Database, LoopClock, MemoryStore
from remediator.authoring.simulation.virtual_loop import VirtualLoop
from remediator.errors import StoreUnavailable
from remediator.storage import Replacement, Tx
from remediator.storage.transaction import Job

T = TypeVar("T")
MOST_STEPS = 60_000
"""Limit for one schedule, which takes a few thousand steps. More steps mean an endless loop."""


class Host:
    """A simulated process."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.alive = True
        self.paused = False
        self.held: list[asyncio.Handle] = []
        self.offset = 0.0
        """Clock error in seconds."""


HOST: ContextVar[Host | None] = ContextVar("host", default=None)


class HostLoop(VirtualLoop):
    """An event loop whose callbacks belong to hosts. Only callbacks of hosts count as steps."""

    def __init__(self, chance: random.Random) -> None:
        super().__init__(chance, MOST_STEPS)
        self.before_step: Callable[[Host], None] = lambda host: None
        """Called before each step of a host; can kill or pause the host."""

    def run_step(self, handle: asyncio.Handle) -> None:
        host = handle._context.get(HOST)  # type: ignore[attr-defined]
        if host is not None:
            self.count_step()
            self.before_step(host)
            if host.paused or not host.alive:
                host.held.append(handle)
                return
        handle._run()

    def resume(self, host: Host) -> None:
        """Resume a paused host, as SIGCONT does. Callbacks that became ready in the meantime are ready now."""
        host.paused = False
        held, host.held = host.held, []
        self._ready.extend(held)


class HostClock(LoopClock):
    """The clock of a host: the true time plus the clock error of the host."""

    def __init__(self, loop: VirtualLoop, host: Host) -> None:
        super().__init__(loop)
        self._host = host

    def now(self) -> datetime:
        return super().now() + timedelta(seconds=self._host.offset)


@dataclass(frozen=True, slots=True)
class StoreFaults:
    """Probability of each fault, for each access."""

    unavailable: float = 0.0
    """The access fails, and nothing is written."""
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


class FaultyDatabase(Database):
    """A database that can fail over to a standby that is behind."""

    loop: HostLoop

    def __init__(self, loop: HostLoop) -> None:
        super().__init__(loop)
        self.after_commit: Callable[[], None] = lambda: None
        self.replaced: Replacement | None = None
        """The time at which a standby took over; see :meth:`fail_over`."""
        self._kept: deque[bytes] | None = None
        self.over = False
        """Set at the end of the schedule; after that, nothing is read or written."""

    def keep_commits(self, number: int) -> None:
        """Keep this number of last commits, so a standby can lack them."""
        self._kept = deque(maxlen=number + 1)

    def committed(self) -> None:
        """Record a commit: the standby receives it, and the judge checks it."""
        if self._kept is not None:
            self._kept.append(self.raw.serialize())
        self.after_commit()

    def fail_over(self, lost: int) -> int:
        """Make a standby the primary that lacks up to ``lost`` commits. Return the number of lost commits."""
        kept = self._kept or deque()
        lost = min(lost, len(kept) - 1)
        if lost < 1:
            return 0
        self.raw.deserialize(kept[-1 - lost])
        self.raw.execute("PRAGMA foreign_keys=ON")
        self.replaced = Replacement(self.now, lossless=False)
        kept.clear()
        return lost

    def do(self, work: Callable[[Tx], T]) -> T:
        try:
            return super().do(work)
        finally:
            self.committed()


class FaultyStore(MemoryStore):
    """The store of one host; each access can have a fault."""

    def __init__(self, database: FaultyDatabase, host: Host, chance: random.Random, faults: StoreFaults) -> None:
        super().__init__(database)
        self._world = database
        self._host = host
        self._chance = chance
        self.faults = faults
        self.clock = HostClock(database.loop, host)

    @property
    def replaced(self) -> Replacement | None:  # type: ignore[override]
        """Return the time at which a standby took over; each host notices this when its connection is closed."""
        return self._world.replaced

    def now(self, connection: Connection) -> datetime:
        self.clock_offset = self._world.now - self.clock.now()
        return self._world.now

    async def perform(self, job: Job) -> Any:
        await self.travel()
        crashes = self._chance.random() < self.faults.crash
        if crashes and self._chance.random() < 0.5:
            await self._die()
        if self._chance.random() < self.faults.unavailable:
            raise StoreUnavailable("simulated: nothing was done")
        try:
            result = self.transact(job)
        finally:
            if crashes:
                await self._die()
        if self._chance.random() < self.faults.stall:
            self._host.paused = True
            loop = self._world.loop
            loop.call_later(self._chance.uniform(5.0, 40.0), loop.resume, self._host, context=Context())
            await asyncio.sleep(0)
        await self.travel()
        if self._chance.random() < self.faults.lost:
            raise StoreUnavailable("simulated: done, but the answer was lost")
        return result

    def transact(self, job: Job) -> Any:
        try:
            return super().transact(job)
        finally:
            self._world.committed()

    def wake(self, store: MemoryStore, topics: set[str]) -> None:
        if self._chance.random() >= self.faults.deaf:
            super().wake(store, topics)

    async def read(self, work: Callable[[Connection], T]) -> T:
        await self.travel()
        if self._chance.random() < self.faults.unavailable:
            raise StoreUnavailable("simulated: cannot be read")
        result = self.snapshot(work)
        await self.travel()
        return result

    async def travel(self) -> None:
        if self._world.over:
            raise asyncio.CancelledError
        await super().travel()
        if self._chance.random() < self.faults.slow:
            await asyncio.sleep(self._chance.choice((0.05, 0.5, 3.0, 8.0)))

    async def _die(self) -> None:
        self._host.alive = False
        await asyncio.get_running_loop().create_future()
