"""The write gate: one thread that turns many small pieces of work into few synced transactions."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

import sqlalchemy.exc
from sqlalchemy import Connection

from remediator.audit import Draft, Redactor
from remediator.clock import to_micros
from remediator.errors import StoreError, StoreUnavailable
from remediator.stores import NOTIFICATIONS, Tx, Wakeups
from remediator.stores.sequencer import append

_INSERT_NOTIFICATION = "INSERT INTO notifications (received_at, source, body) VALUES ({0}, {0}, {0})"
_VICTIM = ("40P01", "40001")
"""PostgreSQL's words for: nothing of it was done, do it again (deadlock, serialization failure)."""
_AGAIN = 5


class Dialect(Protocol):
    """What differs between databases, as far as the gate is concerned."""

    begin: str
    mark: str
    """Placeholder of the driver: ``?`` or ``%s``."""

    def connect(self) -> Connection:
        """A fresh connection for the gate alone, in autocommit, ready to write; or StoreError."""
        ...

    def now(self, connection: Connection) -> datetime:
        """The database's idea of the time."""
        ...

    def announce(self, connection: Connection, topics: set[str]) -> None:
        """Tell other replicas, within the transaction, what to wake up for."""
        ...


@dataclass(slots=True)
class _Job:
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]
    work: Callable[[Tx], Any] | None = None
    source: str = ""
    body: bytes = b""
    result: Any = None
    error: BaseException | None = None


class Gate:
    """One writer thread with group commit.

    Args:
        dialect: the database.
        wakeups: woken after each commit.
        redactor: cuts secrets out of what goes into the audit log.
        group: most jobs in one transaction; bounds how long a reader of the answer can be held up by others.
    """

    def __init__(self, dialect: Dialect, wakeups: Wakeups, redactor: Redactor, group: int = 512) -> None:
        self._dialect = dialect
        self._wakeups = wakeups
        self._redactor = redactor
        self._group = group
        self._insert = _INSERT_NOTIFICATION.format(dialect.mark)
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._connection: Connection | None = dialect.connect()
        self._closed = False
        self._thread = threading.Thread(target=self._serve, name="write-gate", daemon=True)
        self._thread.start()

    async def write(self, work: Callable[[Tx], Any]) -> Any:
        """See :meth:`remediator.stores.Store.write`."""
        return await self._submit(work=work)

    async def accept(self, source: str, body: bytes) -> None:
        """See :meth:`remediator.stores.Store.accept`."""
        await self._submit(source=source, body=body)

    def _submit(self, **what: Any) -> asyncio.Future[Any]:
        if self._closed:
            raise StoreUnavailable("the store is closed")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        self._jobs.put(_Job(loop, future, **what))
        return future

    async def close(self) -> None:
        """Do what is queued, then stop the thread."""
        if not self._closed:
            self._closed = True
            self._jobs.put(None)
        await asyncio.to_thread(self._thread.join)

    def _serve(self) -> None:
        stopping = False
        while not stopping:
            first = self._jobs.get()
            if first is None:
                break
            jobs = [first]
            while len(jobs) < self._group and not self._jobs.empty():
                job = self._jobs.get()
                if job is None:
                    stopping = True
                    break
                jobs.append(job)
            self._serve_group(jobs)
        if self._connection is not None:
            self._connection.close()

    def _serve_group(self, jobs: Sequence[_Job]) -> None:
        topics: set[str] = set()
        try:
            topics = self._until_not_victim(jobs)
        except (sqlalchemy.exc.DBAPIError, sqlalchemy.exc.InvalidRequestError, StoreError) as error:
            self._abandon(jobs, error)
        except Exception as error:  # noqa: BLE001 - the thread must outlive a defect; the callers are told
            self._abandon(jobs, error)
        loops = {job.loop for job in jobs}
        for loop in loops:
            mine = [job for job in jobs if job.loop is loop]
            try:
                loop.call_soon_threadsafe(self._answer, mine, topics)
            except RuntimeError:
                continue  # that loop is closed: nobody is left to answer

    def _until_not_victim(self, jobs: Sequence[_Job]) -> set[str]:
        """Replicas touch rows in different orders; whom the database chose as a deadlock's victim begins again."""
        for _ in range(_AGAIN):
            try:
                return self._transact(jobs)
            except sqlalchemy.exc.DBAPIError as error:
                if getattr(error.orig, "sqlstate", None) not in _VICTIM or self._connection is None:
                    raise
                self._connection.exec_driver_sql("ROLLBACK")
                for job in jobs:
                    job.result, job.error = None, None
        return self._transact(jobs)

    def _transact(self, jobs: Sequence[_Job]) -> set[str]:
        if self._connection is None:
            self._connection = self._dialect.connect()
        connection = self._connection
        connection.exec_driver_sql(self._dialect.begin)
        now = self._dialect.now(connection)
        drafts: list[Draft] = []
        topics: set[str] = set()
        rows = [(to_micros(now), job.source, job.body) for job in jobs if job.work is None]
        if rows:
            connection.exec_driver_sql(self._insert, rows)
            topics.add(NOTIFICATIONS)
        for job in jobs:
            if job.work is not None:
                self._work(connection, job, now, drafts, topics)
        if drafts:
            append(connection, drafts, now, self._redactor)
        if topics:
            self._dialect.announce(connection, topics)
        connection.exec_driver_sql("COMMIT")
        return topics

    def _work(self, connection: Connection, job: _Job, now: datetime, drafts: list[Draft], topics: set[str]) -> None:
        assert job.work is not None
        tx = Tx(connection, now, redactor=self._redactor)
        connection.exec_driver_sql("SAVEPOINT work")
        try:
            job.result = job.work(tx)
        except sqlalchemy.exc.OperationalError:
            raise  # the database itself is in trouble: the whole group is
        except Exception as error:  # noqa: BLE001 - handed to the caller, who alone knows what it means
            connection.exec_driver_sql("ROLLBACK TO SAVEPOINT work")
            job.error = error
        else:
            drafts += tx.drafts
            topics |= tx.topics
        connection.exec_driver_sql("RELEASE SAVEPOINT work")

    def _abandon(self, jobs: Sequence[_Job], error: Exception) -> None:
        """Nothing of this group is known to be durable: say so to every caller, and start from a new connection."""
        told: Exception = error
        if isinstance(error, sqlalchemy.exc.DBAPIError | sqlalchemy.exc.InvalidRequestError):
            told = StoreUnavailable(f"the store cannot write now: {getattr(error, 'orig', None) or error}")
        for job in jobs:
            job.result, job.error = None, told
        connection, self._connection = self._connection, None
        if connection is None:
            return
        try:
            connection.exec_driver_sql("ROLLBACK")
        except sqlalchemy.exc.SQLAlchemyError:
            connection.invalidate()
        finally:
            connection.close()

    def _answer(self, jobs: Sequence[_Job], topics: set[str]) -> None:
        for job in jobs:
            if job.future.done():
                continue  # the caller was cancelled; its work stands all the same
            if job.error is not None:
                job.future.set_exception(job.error)
            else:
                job.future.set_result(job.result)
        self._wakeups.set(topics)
