"""SQLite store: one file, one process, no server. With WAL and ``synchronous=FULL``, a commit is fsynced."""

from __future__ import annotations

import asyncio
import fcntl
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import IO, Any, TypeVar

import sqlalchemy
import sqlalchemy.exc
from sqlalchemy import Connection, Integer, column, event, text

from remediator.audit import Redactor
from remediator.core.clock import Clock
from remediator.core.sizes import MEBIBYTE, format_size
from remediator.errors import StoreCorrupt, StoreUnavailable
from remediator.storage import Store, Tx, Wakeups, replacement, sqlite_settings
from remediator.storage.group_commit import GroupCommit
from remediator.storage.migrate import require_current
from remediator.storage.prepared import Prepared
from remediator.storage.transaction import ROLLBACK, to_store_error

T = TypeVar("T")

_NETWORK_FILE_SYSTEMS = {
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "smbfs",
    "9p",
    "fuse.sshfs",
    "ceph",
    "glusterfs",
    "fuse.glusterfs",
}

_BEGIN_READ, _BEGIN_WRITE = Prepared(text("BEGIN")), Prepared(text("BEGIN IMMEDIATE"))
_OTHERS_COMMITTED = Prepared(text("PRAGMA data_version").columns(column("data_version", Integer)))
_MIN_FREE_BYTES = MEBIBYTE
"""Free bytes that are required. On a full disk, a small write can still fit into SQLite's WAL file. So a successful
write does not prove that there is space for a large notification."""


class SqliteStore(Store):
    """A store in one SQLite file, owned by this process alone while open.

    Args:
        path: the database file; its folder must exist and be on a local file system.
        clock: the time of leases and entries. There is one process, so its clock is the time of the database.
        redactor: knows the secrets of this installation; without it, only text that looks like a secret is removed.

    Raises:
        StoreUnavailable: another process uses the file, the disk is read-only or full, or the path is wrong.
        StoreCorrupt: the file is not a database, is damaged, or has another schema than this version's.
    """

    name = "sqlite"

    def __init__(self, path: Path, clock: Clock, redactor: Redactor | None = None) -> None:
        self.path = path
        self._clock = clock
        self._version = 0
        self._others_seen = 0
        self.redactor = redactor or Redactor()
        self.wakeups = Wakeups()
        self._lock = _take_lock(path)
        self._engine = _engine(path)
        try:
            with _file_errors(path), self._engine.connect() as connection:
                sqlite_settings.verify(connection, path)
                require_current(connection)
                # A write that changes nothing, because the file may be readable but not writable.
                connection.exec_driver_sql("DELETE FROM key_values WHERE name IS NULL")
                self.replaced = replacement.last(connection)
            self._writer = GroupCommit(self, self.wakeups)
        except BaseException:
            self._engine.dispose()
            self._lock.close()
            raise
        self._readers = ThreadPoolExecutor(2, thread_name_prefix="sqlite-reader")
        self._viewers = ThreadPoolExecutor(2, thread_name_prefix="sqlite-viewer")

    placeholder = "?"

    def connect(self) -> Connection:
        """Return the writer's connection; see :class:`remediator.storage.transaction.Dialect`."""
        with _file_errors(self.path):
            connection = self._engine.connect()
            self._others_seen = connection.execute(_OTHERS_COMMITTED).scalar_one()
            self._version += 1  # earlier commits are unknown here
            return connection

    def begin(self, connection: Connection) -> None:
        connection.execute(_BEGIN_WRITE)

    @property
    def version(self) -> int | None:
        return self._version

    def version_inside(self, connection: Connection) -> int | None:
        """Return the version inside a transaction of the writer. Commands may commit on separate connections."""
        others: int = connection.execute(_OTHERS_COMMITTED).scalar_one()
        if others != self._others_seen:
            self._others_seen = others
            self._version += 1
        return self._version

    def count_change(self) -> None:
        self._version += 1

    def now(self, connection: Connection) -> datetime:
        return self._clock.now()

    def monotonic(self) -> float:
        return time.monotonic()

    def notify_replicas(self, connection: Connection, topics: set[str]) -> None:
        """Do nothing: there is one process, which wakes its own loops."""

    async def write(self, work: Callable[[Tx], T]) -> T:
        result: T = await self._writer.write(work)
        return result

    async def accept(self, source: str, body: bytes) -> None:
        await self._writer.accept(source, body)

    async def read(self, work: Callable[[Connection], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._read, work)

    async def view(self, work: Callable[[Connection], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._viewers, self._read, work)

    def _read(self, work: Callable[[Connection], T]) -> T:
        try:
            with self._engine.connect() as connection:
                connection.execute(_BEGIN_READ)  # all reads of the work use one snapshot
                try:
                    return work(connection)
                finally:
                    connection.execute(ROLLBACK)
        except sqlalchemy.exc.DBAPIError as error:
            raise to_store_error(error) from error

    def require_free_space(self) -> None:
        try:
            disk = os.statvfs(self.path.parent)
        except OSError as error:
            raise StoreUnavailable(f"{self.path.parent}: {error.strerror}") from error
        free = (disk.f_bfree if os.geteuid() == 0 else disk.f_bavail) * disk.f_frsize
        if free < _MIN_FREE_BYTES:
            raise StoreUnavailable(
                f"{self.path.parent}: only {format_size(free)} are free and a notification may not fit; free disk space"
            )

    async def close(self) -> None:
        await self._writer.close()
        self._readers.shutdown()
        self._viewers.shutdown()
        self._engine.dispose()
        self._lock.close()


def _engine(path: Path) -> sqlalchemy.Engine:
    engine = sqlalchemy.create_engine(
        f"sqlite:///{path}",
        isolation_level="AUTOCOMMIT",  # the writer sends BEGIN and COMMIT itself
        connect_args={"timeout": sqlite_settings.BUSY_TIMEOUT, "check_same_thread": False, "cached_statements": 256},
        pool_size=4,
        max_overflow=8,
    )

    @event.listens_for(engine, "connect")
    def prepare(connection: sqlite3.Connection, record: Any) -> None:
        try:
            for statement in sqlite_settings.STATEMENTS:
                connection.execute(statement)
        except BaseException:
            connection.close()
            raise

    return engine


def _take_lock(path: Path) -> IO[str]:
    """Take the lock file beside the database. Otherwise, two processes on one SQLite file would both act as if
    alone."""
    folder = path.parent
    if not folder.is_dir():
        raise StoreUnavailable(f"{path}: the folder {folder} does not exist; create it or correct 'state'")
    kind = _file_system(folder)
    if kind in _NETWORK_FILE_SYSTEMS:
        raise StoreUnavailable(
            f"{path}: the file system is {kind}, and SQLite needs a local disk; set 'state' to a local folder, "
            "or use PostgreSQL"
        )
    try:
        # do not follow a link: the process ID would overwrite its file; do not wait for a pipe
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        handle = os.fdopen(os.open(f"{path}.lock", flags, 0o600), "r+", encoding="ascii")
    except OSError as error:
        raise StoreUnavailable(
            f"{path}: cannot be written: {error.strerror}; correct its permissions or 'state'"
        ) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        handle.seek(0)
        holder = handle.read().strip() or "unknown"
        handle.close()
        raise StoreUnavailable(
            f"{path}: is in use by process {holder}; stop it, or use PostgreSQL for replicas"
        ) from None
    try:
        os.ftruncate(handle.fileno(), 0)
        os.write(handle.fileno(), str(os.getpid()).encode())
    except OSError as error:
        handle.close()
        raise StoreUnavailable(
            f"{path}: cannot be written: {error.strerror}; check its permissions and free space, or correct 'state'"
        ) from error
    return handle


@contextmanager
def exclusive_lock(path: Path) -> Iterator[None]:
    """Hold the lock of a database file while it is replaced, so that no remediator opens it.

    Raises:
        StoreUnavailable: another process holds the lock.
    """
    handle = _take_lock(path)
    try:
        yield
    finally:
        handle.close()


def _file_system(folder: Path) -> str:
    """Return the type of the file system of a folder; empty if it is unknown."""
    best, kind = "", ""
    here = str(folder.resolve())
    try:
        mounts = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""  # only Linux has this file
    for line in mounts:
        _, point, name, *_ = line.split(" ")
        if (here == point or here.startswith(point.rstrip("/") + "/")) and len(point) >= len(best):
            best, kind = point, name
    return kind


class _file_errors:
    """Convert errors of SQLite about the file to errors that name the next action."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        cause = getattr(error, "orig", error)
        if isinstance(cause, sqlite3.DatabaseError) and not isinstance(cause, sqlite3.OperationalError):
            raise StoreCorrupt(
                f"{self._path}: {cause}; restore it from a backup, or move it away to start with an empty database"
            )
        if isinstance(cause, sqlite3.OperationalError):
            raise StoreUnavailable(
                f"{self._path}: {cause}; check that it is a file, its permissions and the free space"
            )
