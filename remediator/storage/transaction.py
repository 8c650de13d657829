"""Run many small pieces of work in one transaction: one savepoint each, one audit append, one commit and fsync.

This module is synchronous and starts no threads. The group commit writer runs it in production, and the simulation
runs it on its virtual clock.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Protocol

import sqlalchemy.exc
from sqlalchemy import Connection, text

from remediator.audit import Draft, Redactor
from remediator.core import failpoints
from remediator.core.clock import to_micros
from remediator.errors import StoreCorrupt, StoreUnavailable
from remediator.storage import TOPIC_NOTIFICATIONS, Tx
from remediator.storage.audit_writer import append
from remediator.storage.prepared import Prepared

COMMIT, ROLLBACK = Prepared(text("COMMIT")), Prepared(text("ROLLBACK"))
"""End a transaction that :meth:`Dialect.begin` began."""
_SAVEPOINT = Prepared(text("SAVEPOINT work"))
_ROLLBACK_TO_SAVEPOINT = Prepared(text("ROLLBACK TO SAVEPOINT work"))
_RELEASE_SAVEPOINT = Prepared(text("RELEASE SAVEPOINT work"))
_INSERT_NOTIFICATIONS = "INSERT INTO notifications (received_at, source, body) VALUES "
_ROWS_PER_STATEMENT = 256
_RETRYABLE = {"40001", "40P01"}  # PostgreSQL: serialization failure, deadlock; nothing was done
_READ_ONLY = "25006"  # PostgreSQL: the server was the primary and is a standby now
_MAX_RETRIES = 3
_CALLER_ERRORS = (sqlalchemy.exc.IntegrityError, sqlalchemy.exc.DataError, sqlalchemy.exc.ProgrammingError)


class Dialect(Protocol):
    """The differences between databases for the writer."""

    placeholder: str
    """Placeholder of the driver: ``?`` or ``%s``."""
    redactor: Redactor
    """Removes secrets from everything that is stored."""

    def connect(self) -> Connection:
        """Return a new connection for the writer, in autocommit mode and ready to write; or raise StoreError."""
        ...

    def begin(self, connection: Connection) -> None:
        """Begin a transaction that may write."""
        ...

    def now(self, connection: Connection) -> datetime:
        """Return the time of the database."""
        ...

    def version_inside(self, connection: Connection) -> int | None:
        """Return :attr:`remediator.storage.Store.version` inside a transaction, with commits of other processes."""
        ...

    def count_change(self) -> None:
        """Change the version, after work was committed."""
        ...

    def monotonic(self) -> float:
        """Return the monotonic time of this process, in seconds."""
        ...

    def notify_replicas(self, connection: Connection, topics: set[str]) -> None:
        """Notify the other replicas of these topics when the transaction commits."""
        ...


@dataclass(slots=True)
class Job:
    """One piece of work, or one notification, with its result or error."""

    work: Callable[[Tx], Any] | None = None
    source: str = ""
    body: bytes = b""
    result: Any = None
    error: BaseException | None = None


class BeginFailed(Exception):
    """The transaction could not begin; it may begin on another connection."""


class GroupAborted(Exception):
    """One piece of work made the transaction fail; the other work may succeed in separate transactions."""


def run_group(dialect: Dialect, connection: Connection, jobs: Sequence[Job]) -> set[str]:
    """Run all jobs in one transaction; if a job aborts it, run each job in a separate transaction.

    Afterwards each job has its result or its error.

    Returns:
        the topics to notify.

    Raises:
        BeginFailed: nothing was done; the connection is not usable.
        Exception: it is unknown what is durable; the connection is not usable. Jobs may have neither result nor error.
    """
    try:
        return _commit_with_retries(dialect, connection, jobs)
    except GroupAborted:
        pass
    topics: set[str] = set()
    notifications = [job for job in jobs if job.work is None]
    for part in ([notifications] if notifications else []) + [[job] for job in jobs if job.work is not None]:
        try:
            topics |= _commit_with_retries(dialect, connection, part)
        except GroupAborted as aborted:
            part[0].error = to_store_error(aborted.__cause__)
    return topics


def _commit_with_retries(dialect: Dialect, connection: Connection, jobs: Sequence[Job]) -> set[str]:
    for _ in range(_MAX_RETRIES):
        try:
            return commit(dialect, connection, jobs)
        except GroupAborted as aborted:
            state = getattr(getattr(aborted.__cause__, "orig", None), "sqlstate", None)
            if state == _READ_ONLY:
                raise BeginFailed from aborted.__cause__
            if state not in _RETRYABLE:
                raise
    return commit(dialect, connection, jobs)


def commit(dialect: Dialect, connection: Connection, jobs: Sequence[Job]) -> set[str]:
    """Run the jobs in one transaction, once.

    The order matters: the notifications and the work first, then the audit entries with the head of the log locked
    last, then the commit. No caller gets an answer before the commit, which is what promise 1 requires.
    """
    try:
        dialect.begin(connection)
    except sqlalchemy.exc.SQLAlchemyError as error:
        raise BeginFailed from error
    began_at, now = dialect.monotonic(), dialect.now(connection)
    received_at = to_micros(now)
    rows = [(received_at, job.source, job.body) for job in jobs if job.work is None]
    _insert_notifications(dialect, connection, rows)
    topics: set[str] = {TOPIC_NOTIFICATIONS} if rows else set()
    drafts: list[Draft] = []
    has_work = any(job.work is not None for job in jobs)
    try:
        for tx in _run_all(dialect, connection, jobs, began_at, now):
            drafts += tx.drafts
            topics |= tx.topics
        if len(jobs) == 1 and jobs[0].error is not None:
            return set()
        if drafts:
            append(connection, drafts, now, dialect.redactor)
    except Exception as error:
        try:
            connection.execute(ROLLBACK)
        except sqlalchemy.exc.SQLAlchemyError:
            raise error from None  # the connection or the disk is gone: each job alone would fail too
        raise GroupAborted from error
    if topics:
        dialect.notify_replicas(connection, topics)
    failpoints.reach("before", lambda: _failpoint_names(rows, drafts))
    try:
        connection.execute(COMMIT)
    finally:  # also after a failure, because the transaction may be committed anyway
        if has_work:
            dialect.count_change()
    failpoints.reach("after", lambda: _failpoint_names(rows, drafts))
    return topics


def _insert_notifications(dialect: Dialect, connection: Connection, rows: Sequence[tuple[int, str, bytes]]) -> None:
    """Insert with few statements: after each statement, this thread must wait for the interpreter's lock again."""
    row = f"({dialect.placeholder}, {dialect.placeholder}, {dialect.placeholder})"
    for start in range(0, len(rows), _ROWS_PER_STATEMENT):
        part = rows[start : start + _ROWS_PER_STATEMENT]
        values = tuple(value for one in part for value in one)
        connection.exec_driver_sql(_INSERT_NOTIFICATIONS + ", ".join([row] * len(part)), values)


def _run_all(
    dialect: Dialect, connection: Connection, jobs: Sequence[Job], began_at: float, now: datetime
) -> Iterable[Tx]:
    """Run all pieces of work, each with a separate transaction object."""
    first = True
    for job in jobs:
        if job.work is None:
            continue
        tx = Tx(connection, now, began_at, redactor=dialect.redactor)
        if first:  # the work before it, in the same database transaction, may have changed something
            tx.version = partial(dialect.version_inside, connection)
        first = False
        _run(job, job.work, tx, alone=len(jobs) == 1)
        yield tx


def _run(job: Job, work: Callable[[Tx], Any], tx: Tx, *, alone: bool) -> None:
    """Run one piece of work. If it raises, undo only its own changes.

    Args:
        job: gets the result or the error.
        work: the work.
        tx: its transaction.
        alone: it is the only piece of work of the transaction, so that it needs no savepoint. If it raises, the
            transaction is over.
    """
    job.result, job.error = None, None
    if not alone:
        tx.connection.execute(_SAVEPOINT)
    try:
        job.result = work(tx)
    except Exception as error:
        if isinstance(error, sqlalchemy.exc.DBAPIError) and not isinstance(error, _CALLER_ERRORS):
            raise  # the database has a problem, or aborted this transaction; the work is not to blame
        tx.connection.execute(ROLLBACK if alone else _ROLLBACK_TO_SAVEPOINT)
        tx.drafts.clear()
        tx.topics.clear()
        job.error = error  # raise the error to the caller, who can interpret it
    if not alone:
        tx.connection.execute(_RELEASE_SAVEPOINT)


def _failpoint_names(rows: Sequence[object], drafts: Sequence[Draft]) -> Iterable[str]:
    if rows:
        yield "notification"
    for draft in drafts:
        to = draft.data.get("to", draft.data.get("outcome", ""))
        yield f"{draft.kind}/{to}" if to else str(draft.kind)
    if not rows and not drafts:
        yield "nothing"


def to_store_error(error: BaseException | None) -> Exception:
    """Convert an error of the database to a StoreError; return other exceptions unchanged."""
    if not isinstance(error, sqlalchemy.exc.SQLAlchemyError):
        return error if isinstance(error, Exception) else StoreUnavailable("the store cannot write now")
    cause = getattr(error, "orig", None) or error
    first_line = str(cause).strip().splitlines()[0] if str(cause).strip() else type(cause).__name__
    if isinstance(cause, sqlite3.DatabaseError) and type(cause) is sqlite3.DatabaseError:
        return StoreCorrupt(f"the database is damaged: {first_line}; restore it from a backup")
    return StoreUnavailable(f"the store cannot be used now: {first_line}")
