"""The store: where everything durable lives, and the one gate through which it is written.

A piece of work is a plain function of a transaction (:class:`Tx`). The gate runs many of them inside one database
transaction, each in a savepoint of its own, seals what they wrote to the audit log, commits once, and only then
answers. So "committed" is what every awaited ``write`` means, and a state never changes without its audit entry.
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
"""Topic: a notification waits to be taken in."""
TOPIC_RUNS = "runs"
"""Topic: a run may be due."""
TOPIC_RECONCILE = "reconcile"
"""Topic: a notification was shortened; what it left out has to be fetched."""
TOPIC_MESSAGES = "messages"
"""Topic: a message waits to be sent."""


@dataclass(slots=True)
class Tx:
    """What a piece of work gets: a connection inside the transaction, the store's time, and the audit log's pen."""

    connection: Connection
    now: datetime
    """The database's clock, not the host's: leases of replicas on several hosts compare against it."""
    began_at: float = 0.0
    """The event loop's clock just before ``now`` was asked for: so much of any lease granted here has passed since."""
    drafts: list[Draft] = field(default_factory=list)
    topics: set[str] = field(default_factory=set)
    redactor: Redactor = field(default_factory=Redactor)

    def redact(self, value: Any) -> Any:
        """A JSON value without secrets; every free text goes through this before it is stored."""
        return redact_json(value, self.redactor)

    def redact_json(self, encoded: bytes) -> bytes:
        """JSON that others sent, without secrets: the same bytes, unless there is something to look at."""
        if not self.redactor.may_contain_secret(encoded):
            return encoded
        value = msgspec.json.decode(encoded)
        clean = redact_texts(value, self.redactor)
        return encoded if clean == value else msgspec.json.encode(clean)

    def append_audit(self, draft: Draft) -> None:
        """Write an entry; it is sealed and committed together with everything else of this work, or not at all."""
        self.drafts.append(draft)

    def notify(self, topic: str) -> None:
        """After the commit, wake whoever waits for ``topic``, in every replica."""
        self.topics.add(topic)


class Wakeups:
    """Events by topic, for loops that otherwise poll. A wake-up may be spurious, and may be lost: poll as well."""

    def __init__(self) -> None:
        self._events: dict[str, asyncio.Event] = {}

    def set(self, topics: set[str]) -> None:
        """Wake the waiters of these topics. Only from the event loop's own thread."""
        for topic in topics:
            self._events.setdefault(topic, asyncio.Event()).set()

    async def wait(self, topic: str, seconds: float) -> None:
        """Return when ``topic`` was woken since the last wait, or after so many seconds."""
        event = self._events.setdefault(topic, asyncio.Event())
        try:
            async with asyncio.timeout(seconds):
                await event.wait()
        except TimeoutError:
            return
        event.clear()

    def consume(self, topic: str) -> bool:
        """Whether ``topic`` was woken since this or a wait was last asked."""
        event = self._events.setdefault(topic, asyncio.Event())
        woken = event.is_set()
        event.clear()
        return woken


class Store(ABC):
    """The contract of a store; ``tests/storage`` runs one suite on every implementation."""

    name: str
    wakeups: Wakeups
    redactor: Redactor
    """Cuts the installation's secrets out of what is audited; replaced when the inventory is."""
    clock_offset: timedelta = timedelta(0)
    """How far the database's clock was ahead of this host's when it was last asked."""

    @abstractmethod
    async def write(self, work: Callable[[Tx], T]) -> T:
        """Run ``work`` in a transaction and return its result once that is committed and synced.

        ``work`` must be quick, do no I/O of its own, and may be run again from the start if the database asked for
        that. An exception that it raises undoes only its own changes and comes back to the caller.

        Raises:
            StoreUnavailable: not committed as far as can be told (locked, full, gone).
        """

    @abstractmethod
    async def accept(self, source: str, body: bytes) -> None:
        """Put a notification into the inbox, durably. The hot path: many go in by one statement and one sync."""

    @abstractmethod
    async def read(self, work: Callable[[Connection], T]) -> T:
        """Run ``work`` on a connection that sees what was committed; it must not write."""

    def require_free_space(self) -> None:
        """See that another notification fits, as far as can be told without writing one.

        Raises:
            StoreUnavailable: it may not.
        """

    @abstractmethod
    async def close(self) -> None:
        """Finish what was begun, then let go of the database."""


class StoreClock:
    """The store's time, told by this host's clock: what leases, timers and deadlines of all replicas agree on.

    Args:
        store: asked for the time with every transaction.
        host: runs between them.
    """

    def __init__(self, store: Store, host: Clock) -> None:
        self._store = store
        self._host = host

    def now(self) -> datetime:
        return self._host.now() + self._store.clock_offset

    async def sleep(self, seconds: float) -> None:
        await self._host.sleep(seconds)
