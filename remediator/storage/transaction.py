"""One transaction for many small pieces of work: each in a savepoint, sealed into the audit log together, synced once.

Synchronous and without threads, so that the gate runs it in production and the simulation on its virtual clock.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

import sqlalchemy.exc
from sqlalchemy import Connection

from remediator.audit import Draft, Redactor
from remediator.core import failpoints
from remediator.core.clock import to_micros
from remediator.errors import StoreCorrupt, StoreUnavailable
from remediator.storage import TOPIC_NOTIFICATIONS, Tx
from remediator.storage.audit_writer import append

_INSERT_NOTIFICATIONS = "INSERT INTO notifications (received_at, source, body) VALUES "
_AT_ONCE = 256  # rows in one statement
_AGAIN = {"40001", "40P01"}  # PostgreSQL: serialization failure, deadlock; nothing was done, do it again
_READ_ONLY = "25006"  # PostgreSQL: this server was the primary, and is none any more
_REPEATS = 3
_OF_THE_WORK = (sqlalchemy.exc.IntegrityError, sqlalchemy.exc.DataError, sqlalchemy.exc.ProgrammingError)


class Dialect(Protocol):
    """What differs between databases, as far as the gate is concerned."""

    begin: str
    mark: str
    """Placeholder of the driver: ``?`` or ``%s``."""
    redactor: Redactor
    """Cuts secrets out of whatever is stored."""

    def connect(self) -> Connection:
        """A fresh connection for the gate alone, in autocommit, ready to write; or StoreError."""
        ...

    def now(self, connection: Connection) -> datetime:
        """The database's idea of the time."""
        ...

    def ticks(self) -> float:
        """The event loop's idea of the time, which no one can set."""
        ...

    def announce(self, connection: Connection, topics: set[str]) -> None:
        """Tell other replicas, within the transaction, what to wake up for."""
        ...


@dataclass(slots=True)
class Job:
    """One piece of work, or one notification, and what became of it."""

    work: Callable[[Tx], Any] | None = None
    source: str = ""
    body: bytes = b""
    result: Any = None
    error: BaseException | None = None


class BeginFailed(Exception):
    """The transaction could not even be begun: on another connection it may be."""


class GroupAborted(Exception):
    """Some piece of work made the transaction fail: alone, the others may stand."""


def run_group(dialect: Dialect, connection: Connection, jobs: Sequence[Job]) -> set[str]:
    """Do all jobs in one transaction, or, if one of them spoils that, each in its own.

    Afterwards each job has its result or its error.

    Returns:
        the topics to wake up for.

    Raises:
        NotBegun: nothing was done; the connection is of no use.
        Exception: nothing more is known to be durable; the connection is of no use. Jobs without an outcome have none.
    """
    try:
        return _repeated(dialect, connection, jobs)
    except GroupAborted:
        pass
    topics: set[str] = set()
    plain = [job for job in jobs if job.work is None]
    for part in ([plain] if plain else []) + [[job] for job in jobs if job.work is not None]:
        try:
            topics |= _repeated(dialect, connection, part)
        except GroupAborted as spoiled:
            part[0].error = to_store_error(spoiled.__cause__)
    return topics


def _repeated(dialect: Dialect, connection: Connection, jobs: Sequence[Job]) -> set[str]:
    for _ in range(_REPEATS):
        try:
            return commit(dialect, connection, jobs)
        except GroupAborted as spoiled:
            state = getattr(getattr(spoiled.__cause__, "orig", None), "sqlstate", None)
            if state == _READ_ONLY:
                raise BeginFailed from spoiled.__cause__
            if state not in _AGAIN:
                raise
    return commit(dialect, connection, jobs)


def commit(dialect: Dialect, connection: Connection, jobs: Sequence[Job]) -> set[str]:
    """One transaction, once."""
    try:
        connection.exec_driver_sql(dialect.begin)
    except sqlalchemy.exc.SQLAlchemyError as error:
        raise BeginFailed from error
    begun, now = dialect.ticks(), dialect.now(connection)
    topics: set[str] = set()
    rows = [(to_micros(now), job.source, job.body) for job in jobs if job.work is None]
    if rows:
        _insert(dialect, connection, rows)
        topics.add(TOPIC_NOTIFICATIONS)
    drafts = _work(dialect, connection, [job for job in jobs if job.work is not None], (begun, now), topics)
    if topics:
        dialect.announce(connection, topics)
    failpoints.reach("before", lambda: _names(rows, drafts))
    connection.exec_driver_sql("COMMIT")
    failpoints.reach("after", lambda: _names(rows, drafts))
    return topics


def _insert(dialect: Dialect, connection: Connection, rows: Sequence[tuple[int, str, bytes]]) -> None:
    """Few statements of many rows: after each statement this thread waits for its turn with the interpreter."""
    row = f"({dialect.mark}, {dialect.mark}, {dialect.mark})"
    for start in range(0, len(rows), _AT_ONCE):
        part = rows[start : start + _AT_ONCE]
        values = tuple(value for one in part for value in one)
        connection.exec_driver_sql(_INSERT_NOTIFICATIONS + ", ".join([row] * len(part)), values)


def _work(
    dialect: Dialect, connection: Connection, jobs: Sequence[Job], at: tuple[float, datetime], topics: set[str]
) -> list[Draft]:
    drafts: list[Draft] = []
    try:
        for job in jobs:
            _work_one(job, Tx(connection, at[1], at[0], redactor=dialect.redactor), drafts, topics)
        if drafts:
            append(connection, drafts, at[1], dialect.redactor)
    except Exception as error:
        try:
            connection.exec_driver_sql("ROLLBACK")
        except sqlalchemy.exc.SQLAlchemyError:
            raise error from None  # the connection or the disk is gone: no use in trying one by one
        raise GroupAborted from error
    return drafts


def _work_one(job: Job, tx: Tx, drafts: list[Draft], topics: set[str]) -> None:
    assert job.work is not None
    connection = tx.connection
    job.result, job.error = None, None
    connection.exec_driver_sql("SAVEPOINT work")
    try:
        job.result = job.work(tx)
    except Exception as error:
        if isinstance(error, sqlalchemy.exc.DBAPIError) and not isinstance(error, _OF_THE_WORK):
            raise  # the database is in trouble, or chose this one as a victim; not the work's own mistake
        connection.exec_driver_sql("ROLLBACK TO SAVEPOINT work")
        job.error = error  # handed to the caller, who alone knows what it means
    else:
        drafts += tx.drafts
        topics |= tx.topics
    connection.exec_driver_sql("RELEASE SAVEPOINT work")


def _names(rows: Sequence[object], drafts: Sequence[Draft]) -> Iterable[str]:
    if rows:
        yield "notification"
    for draft in drafts:
        to = draft.data.get("to", draft.data.get("outcome", ""))
        yield f"{draft.kind}/{to}" if to else str(draft.kind)
    if not rows and not drafts:
        yield "nothing"


def to_store_error(error: BaseException | None) -> Exception:
    """What callers are told of an error of the database: a StoreError; others stay what they are."""
    if not isinstance(error, sqlalchemy.exc.SQLAlchemyError):
        return error if isinstance(error, Exception) else StoreUnavailable("the store cannot write now")
    cause = getattr(error, "orig", None) or error
    text = str(cause).strip().splitlines()[0] if str(cause).strip() else type(cause).__name__
    if isinstance(cause, sqlite3.DatabaseError) and type(cause) is sqlite3.DatabaseError:
        return StoreCorrupt(f"the database is damaged: {text}; restore it from a backup")
    return StoreUnavailable(f"the store cannot be used now: {text}")
