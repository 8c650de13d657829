"""Copies of a SQLite store: taken while the service runs, put back while it does not."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import sqlalchemy

from remediator.errors import StoreCorrupt, StoreUnavailable
from remediator.storage.migrate import require_current

_PAGES = 2000  # copied at a time: the service writes in between


def create_backup(database: Path, to: Path) -> int:
    """A consistent copy of a database that is in use, synced and checked; returns its size in bytes.

    Raises:
        StoreUnavailable: there is no database, ``to`` exists, or the disk does not do it.
        StoreCorrupt: what was copied is damaged.
    """
    if not database.is_file():
        raise StoreUnavailable(f"{database}: there is no database to back up")
    if to.exists():
        raise StoreUnavailable(f"{to}: exists; a backup never overwrites anything")
    part = to.with_name(f"{to.name}.part")
    try:
        with (
            closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as source,
            closing(sqlite3.connect(part)) as copy,
        ):
            _hold_still(source)
            source.backup(copy, pages=_PAGES, sleep=0.01)
            copy.execute("PRAGMA journal_mode=DELETE")
        check_backup(part)
        _sync(part)
        os.replace(part, to)
        _sync(to.parent)
    except (OSError, sqlite3.Error) as error:
        raise StoreUnavailable(f"{to}: the backup failed: {error}") from error
    finally:
        part.unlink(missing_ok=True)
    return to.stat().st_size


def _hold_still(source: sqlite3.Connection) -> None:
    """Read one snapshot to the end: else the copy begins anew whenever another process writes, under load for ever."""
    source.isolation_level = None
    source.execute("BEGIN")
    source.execute("SELECT count(*) FROM sqlite_master").fetchone()


def check_backup(backup: Path) -> None:
    """Whether a file is a whole database of this version.

    Raises:
        StoreCorrupt: it is damaged, or not ours, or of another schema.
    """
    try:
        with closing(sqlite3.connect(f"file:{backup}?mode=ro", uri=True)) as connection:
            found = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
            tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    except sqlite3.Error as error:
        raise StoreCorrupt(f"{backup}: {error}; it is no usable backup") from error
    if found != "ok" or not tables:
        raise StoreCorrupt(f"{backup}: {found if tables else 'is empty'}; it is no usable backup")
    engine = sqlalchemy.create_engine(f"sqlite:///file:{backup}?mode=ro&uri=true")
    try:
        with engine.connect() as connection:
            require_current(connection)
    finally:
        engine.dispose()


def restore_backup(backup: Path, database: Path) -> Path | None:
    """Replace a database by a backup; returns where what was there has been put. Hold the database's lock meanwhile.

    Raises:
        StoreCorrupt: the backup is not usable; nothing was touched.
        StoreUnavailable: the disk does not do it.
    """
    check_backup(backup)
    fresh = database.with_name(f"{database.name}.restoring")
    aside = _aside(database) if database.exists() else None
    try:
        shutil.copyfile(backup, fresh)
        _sync(fresh)
        if aside is not None:
            for suffix in ("", "-wal", "-shm"):
                _move(Path(f"{database}{suffix}"), Path(f"{aside}{suffix}"))
        os.replace(fresh, database)
        _sync(database.parent)
    except OSError as error:
        raise StoreUnavailable(f"{database}: cannot be restored: {error}") from error
    return aside


def _aside(database: Path) -> Path:
    number = 1
    while (aside := database.with_name(f"{database.name}.before-{number}")).exists():
        number += 1
    return aside


def _move(source: Path, target: Path) -> None:
    if source.exists():
        os.replace(source, target)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
