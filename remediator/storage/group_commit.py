"""Group commit: one thread that turns many small pieces of work into few fsynced transactions."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy.exc
from sqlalchemy import Connection

from remediator.errors import StoreUnavailable
from remediator.storage import Tx, Wakeups
from remediator.storage.transaction import BeginFailed, Dialect, Job, run_group, to_store_error


@dataclass(slots=True)
class _Waiting:
    """A job and the future that gets its result."""

    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]
    job: Job


class GroupCommit:
    """One writer thread with group commit.

    Args:
        dialect: the database.
        wakeups: notified after each commit.
        group: most jobs in one transaction; bounds how long the first answer waits for the others.
        accept_timeout: seconds until the sender of a notification is answered with an error, so that it retries. A
            database that hangs reports no error, and behind some load balancers a sender's own timeout is not visible.
    """

    def __init__(self, dialect: Dialect, wakeups: Wakeups, group: int = 512, accept_timeout: float = 5.0) -> None:
        self._dialect = dialect
        self._wakeups = wakeups
        self._group = group
        self._accept_timeout = accept_timeout
        self._jobs: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._connection: Connection | None = dialect.connect()
        self._closed = False
        self._thread = threading.Thread(target=self._serve, name="group-commit", daemon=True)
        self._thread.start()

    async def write(self, work: Callable[[Tx], Any]) -> Any:
        """See :meth:`remediator.storage.Store.write`."""
        return await self._submit(Job(work))

    async def accept(self, source: str, body: bytes) -> None:
        """See :meth:`remediator.storage.Store.accept`."""
        try:
            async with asyncio.timeout(self._accept_timeout):
                await self._submit(Job(source=source, body=body))
        except TimeoutError:
            raise StoreUnavailable(f"the store has not answered for {self._accept_timeout:g} s") from None

    def _submit(self, job: Job) -> asyncio.Future[Any]:
        if self._closed:
            raise StoreUnavailable("the store is closed")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        self._jobs.put(_Waiting(loop, future, job))
        return future

    async def close(self) -> None:
        """Finish the queued work, then stop the thread."""
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
            waiting = [first]
            while len(waiting) < self._group and not self._jobs.empty():
                one = self._jobs.get()
                if one is None:
                    stopping = True
                    break
                waiting.append(one)
            # A sender whose notification timed out retries, so its notification is dropped here. Work is done even if
            # its caller was cancelled.
            waiting = [one for one in waiting if one.job.work is not None or not one.future.cancelled()]
            topics = self._transact([one.job for one in waiting])
            for loop in {one.loop for one in waiting}:
                mine = [one for one in waiting if one.loop is loop]
                try:
                    loop.call_soon_threadsafe(self._answer, mine, topics)
                except RuntimeError:
                    continue  # that loop is closed: there is no caller left
        if self._connection is not None:
            self._connection.close()

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
            for job in jobs:  # nothing of this group is known to be durable, so no caller gets a result
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
            connection.invalidate()  # the pool must not reuse it either
            connection.close()

    def _answer(self, waiting: Sequence[_Waiting], topics: set[str]) -> None:
        for one in waiting:
            if one.future.done():
                continue  # the caller was cancelled; its work is committed all the same
            if one.job.error is not None:
                one.future.set_exception(one.job.error)
            else:
                one.future.set_result(one.job.result)
        self._wakeups.set(topics)
