"""The store: all durable state, and the single write path to it.

A piece of work is a function of a transaction (:class:`Tx`). The writer runs many of them in one database transaction,
each in a savepoint. It appends their entries to the audit log, commits once, and only then returns. Therefore an
awaited ``write`` is committed and fsynced, and a state never changes without its audit entry.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypeVar

import msgspec
from sqlalchemy import Connection

from remediator.audit import Draft, Redactor, redact_json, redact_texts
from remediator.core.clock import Clock

T = TypeVar("T")

TOPIC_NOTIFICATIONS = "notifications"
"""Topic: a notification is in the inbox."""
TOPIC_RUNS = "runs"
"""Topic: a run may be due."""
TOPIC_RECONCILE = "reconcile"
"""Topic: Alertmanager truncated a notification; the missing alerts have to be fetched."""
TOPIC_MESSAGES = "messages"
"""Topic: a message is in the outbox."""


@dataclass(slots=True)
class Tx:
    """The argument of a piece of work: a connection inside the transaction, the time, and the audit log."""

    connection: Connection
    now: datetime
    """The time of the database, not of the host, because replicas on several hosts compare their leases with it."""
    began_at: float = 0.0
    """The event loop's monotonic time just before ``now`` was read; a lease granted here has lasted since then."""
    drafts: list[Draft] = field(default_factory=list)
    topics: set[str] = field(default_factory=set)
    redactor: Redactor = field(default_factory=Redactor)
    version: Callable[[], int | None] = lambda: None
    """Returns the store's version at the start of this work; None if it is unknown whether something has changed."""

    def redact(self, value: Any) -> Any:
        """Return a JSON value without secrets. Every free text passes through here before it is stored."""
        return redact_json(value, self.redactor)

    def redact_json(self, encoded: bytes) -> bytes:
        """Return encoded JSON without secrets; the same bytes if it contains none."""
        if not self.redactor.may_contain_secret(encoded):
            return encoded
        value = msgspec.json.decode(encoded)
        clean = redact_texts(value, self.redactor)
        return encoded if clean == value else msgspec.json.encode(clean)

    def append_audit(self, draft: Draft) -> None:
        """Append an entry to the audit log; it is committed with the other changes of this work, or not at all."""
        self.drafts.append(draft)

    def notify(self, topic: str) -> None:
        """Wake the loops that wait for ``topic``, in every replica, after the commit."""
        self.topics.add(topic)


@dataclass(frozen=True, slots=True)
class Replacement:
    """The time at which this database replaced another database, by a failover or from a backup."""

    at: datetime
    lossless: bool
    """Whether this database has all commits of the other database, which waited for a synchronous standby.
    """


class Wakeups:
    """Events by topic, so that loops do not poll often. A wake-up may be spurious or lost, so loops poll as well."""

    def __init__(self) -> None:
        self._events: dict[str, asyncio.Event] = {}

    def set(self, topics: set[str]) -> None:
        """Wake the waiters of these topics. Call it only in the thread of the event loop."""
        for topic in topics:
            self._events.setdefault(topic, asyncio.Event()).set()

    async def wait(self, topic: str, seconds: float) -> None:
        """Return when ``topic`` was set since the last wait, or after this many seconds."""
        event = self._events.setdefault(topic, asyncio.Event())
        try:
            async with asyncio.timeout(seconds):
                await event.wait()
        except TimeoutError:
            return
        event.clear()

    def consume(self, topic: str) -> bool:
        """Return whether ``topic`` was set since the last wait or consume, and clear it."""
        event = self._events.setdefault(topic, asyncio.Event())
        was_set = event.is_set()
        event.clear()
        return was_set


class Store(ABC):
    """The contract of a store; ``tests/storage`` runs one test suite on every implementation."""

    name: str
    description: str = ""
    """The name, and the pooler in front of the database; empty if the name is sufficient."""
    wakeups: Wakeups
    redactor: Redactor
    """Removes the secrets of this installation from stored data; replaced when the inventory is reloaded."""
    replaced: Replacement | None = None
    """The last time that this database replaced another database; None if it never did."""
    clock_offset: timedelta = timedelta(0)
    """Time of the database minus time of this host, when the database was last asked."""

    @property
    def version(self) -> int | None:
        """Return a number that changes with each committed work; None if other processes write too.

        Compare the number before a read with the number at the start of a later transaction. If they are equal, nothing
        was committed between them, apart from notifications in the inbox.
        """
        return None

    def count_change(self) -> None:
        """Change the version, after work was committed. Call it in the thread that commits."""

    @abstractmethod
    async def write(self, work: Callable[[Tx], T]) -> T:
        """Run ``work`` in a transaction and return its result after the commit and fsync.

        ``work`` must be quick and do no other I/O. The writer may run it again from the start if the database
        requires a retry. If it raises, only its own changes are undone, and the exception is raised to the caller.

        Raises:
            StoreUnavailable: probably not committed (locked, full or unreachable).
        """

    @abstractmethod
    async def accept(self, source: str, body: bytes) -> None:
        """Store a notification in the inbox, durably. The hot path: one statement and one fsync for many of them."""

    @abstractmethod
    async def read(self, work: Callable[[Connection], T]) -> T:
        """Run ``work`` on a connection that sees one committed snapshot; ``work`` must not write."""

    async def view(self, work: Callable[[Connection], T]) -> T:
        """Like :meth:`read`, for pages, the API and metrics: in separate threads, so that no run waits for them."""
        return await self.read(work)

    def require_free_space(self) -> None:
        """Check that another notification fits on the disk.

        Raises:
            StoreUnavailable: it may not fit.
        """

    async def failover_risk(self) -> str:
        """Return why a failover of the database could lose acknowledged commits; an empty text if there is no reason.

        Raises:
            StoreUnavailable: the database cannot be asked.
        """
        return ""

    @abstractmethod
    async def close(self) -> None:
        """Finish the work that has begun, then close the database."""


class StoreClock:
    """The time of the store, which leases, timers and deadlines of all replicas use; advanced by this host's clock.

    Args:
        store: knows its offset to the host's clock from each transaction.
        host: the clock of this host.
    """

    def __init__(self, store: Store, host: Clock) -> None:
        self._store = store
        self._host = host

    def now(self) -> datetime:
        return self._host.now() + self._store.clock_offset

    async def sleep(self, seconds: float) -> None:
        await self._host.sleep(seconds)
