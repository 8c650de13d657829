"""Group commit: one thread that turns many small pieces of work into few fsynced transactions."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy.exc
from sqlalchemy import Connection

from remediator.errors import StoreUnavailable
from remediator.storage import Tx, Wakeups
from remediator.storage.transaction import BeginFailed, Dialect, Job, run_group, to_store_error

_MAX_JOBS = 512
"""Maximum number of jobs in one transaction; limits the delay of the first answer."""
_ACCEPT_TIMEOUT = 5.0
"""Seconds until the sender of a notification is answered with an error, so that it retries. A database that hangs
reports no error, and behind some load balancers a sender's own timeout is not visible."""


@dataclass(slots=True)
class _Batch:
    """The work that callers requested in one turn of an event loop. It goes to the thread as a whole."""

    loop: asyncio.AbstractEventLoop
    jobs: list[Job] = field(default_factory=list)
    futures: list[asyncio.Future[Any]] = field(default_factory=list)
    """They get the results of the jobs, in the same order."""
    timeout: asyncio.TimerHandle | None = None


class GroupCommit:
    """One writer thread with group commit.

    Args:
        dialect: the database.
        wakeups: notified after each commit.
    """

    def __init__(self, dialect: Dialect, wakeups: Wakeups) -> None:
        self._dialect = dialect
        self._wakeups = wakeups
        self._batches: queue.SimpleQueue[_Batch | None] = queue.SimpleQueue()
        self._open: dict[asyncio.AbstractEventLoop, _Batch] = {}
        """The batch of each loop that is not handed over yet."""
        self._connection: Connection | None = dialect.connect()
        self._closed = False
        self._thread = threading.Thread(target=self._serve, name="group-commit", daemon=True)
        self._thread.start()

    def write(self, work: Callable[[Tx], Any]) -> Awaitable[Any]:
        """See :meth:`remediator.storage.Store.write`."""
        return self._submit(Job(work))

    def accept(self, source: str, body: bytes) -> Awaitable[None]:
        """See :meth:`remediator.storage.Store.accept`."""
        return self._submit(Job(source=source, body=body))

    def _submit(self, job: Job) -> asyncio.Future[Any]:
        if self._closed:
            raise StoreUnavailable("the store is closed")
        loop = asyncio.get_running_loop()
        batch = self._open.get(loop)
        if batch is None:
            batch = self._open[loop] = _Batch(loop)
            loop.call_soon(self._hand_over, batch)
        future: asyncio.Future[Any] = loop.create_future()
        batch.jobs.append(job)
        batch.futures.append(future)
        return future

    def _hand_over(self, batch: _Batch) -> None:
        """Give the thread all work of this turn of the loop."""
        if self._open.get(batch.loop) is batch:
            del self._open[batch.loop]
            batch.timeout = batch.loop.call_later(_ACCEPT_TIMEOUT, self._refuse_senders, batch)
            self._batches.put(batch)

    def _refuse_senders(self, batch: _Batch) -> None:
        """Fail the waiting notifications of a batch, so that their senders retry. Other writes have no time limit."""
        for job, future in zip(batch.jobs, batch.futures, strict=True):
            if job.work is None and not future.done():
                future.set_exception(StoreUnavailable(f"the store has not answered for {_ACCEPT_TIMEOUT:g} s"))

    async def close(self) -> None:
        """Finish the queued work, then stop the thread."""
        if not self._closed:
            self._closed = True
            for batch in list(self._open.values()):
                self._hand_over(batch)
            self._batches.put(None)
        await asyncio.to_thread(self._thread.join)

    def _serve(self) -> None:
        stopping = False
        while not stopping:
            first = self._batches.get()
            if first is None:
                break
            group = [first]
            size = len(first.jobs)
            while size < _MAX_JOBS and not self._batches.empty():
                batch = self._batches.get()
                if batch is None:
                    stopping = True
                    break
                group.append(batch)
                size += len(batch.jobs)
            self._commit(group)
        if self._connection is not None:
            self._connection.close()

    def _commit(self, group: Sequence[_Batch]) -> None:
        # A sender whose notification timed out retries, so its notification is dropped here. Work is done even if its
        # caller was cancelled.
        jobs = [
            job
            for batch in group
            for job, future in zip(batch.jobs, batch.futures, strict=True)
            if job.work is not None or not future.done()
        ]
        topics: set[str] = set()
        for start in range(0, len(jobs), _MAX_JOBS):
            topics |= self._transact(jobs[start : start + _MAX_JOBS])
        for batch in group:
            try:
                batch.loop.call_soon_threadsafe(self._answer, batch, topics)
            except RuntimeError:
                continue  # the event loop of the caller is closed, so no caller is left

    def _transact(self, jobs: Sequence[Job]) -> set[str]:
        try:
            try:
                return run_group(self._dialect, self._connected(), jobs)
            except BeginFailed:
                # The connection was cut while it was idle. Nothing was begun, so a second try is safe.
                self._disconnect()
                return run_group(self._dialect, self._connected(), jobs)
        except Exception as error:  # noqa: BLE001 - the thread must survive a defect; the callers get the error
            cause = error.__cause__ if isinstance(error, BeginFailed) else error
            for job in jobs:  # it is unknown whether this group is durable, so no caller gets a result
                job.result, job.error = None, to_store_error(cause)
            self._disconnect()
            return set()

    def _connected(self) -> Connection:
        if self._connection is None:
            self._connection = self._dialect.connect()
        return self._connection

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        try:
            connection.exec_driver_sql("ROLLBACK")
        except sqlalchemy.exc.SQLAlchemyError:
            pass
        finally:
            connection.invalidate()  # the pool must not reuse this connection either
            connection.close()

    def _answer(self, batch: _Batch, topics: set[str]) -> None:
        if batch.timeout is not None:
            batch.timeout.cancel()
        for job, future in zip(batch.jobs, batch.futures, strict=True):
            if future.done():
                continue  # the caller was cancelled; its work is committed all the same
            if job.error is not None:
                future.set_exception(job.error)
            else:
                future.set_result(job.result)
        self._wakeups.set(topics)
