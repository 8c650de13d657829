"""Backup of a SQLite store while the service runs, and restore while it is stopped."""

from __future__ import annotations

import os
import secrets
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import sqlalchemy

from remediator.core.local_files import fsync_directory
from remediator.core.sizes import MEBIBYTE
from remediator.errors import StoreCorrupt, StoreUnavailable
from remediator.storage.migrate import require_current

_PAGES = 2000  # pages copied at a time; the service writes between two batches


def create_backup(database: Path, to: Path) -> int:
    """Write a consistent, fsynced and checked copy of a database in use. Return its size in bytes.

    Raises:
        StoreUnavailable: there is no database, ``to`` exists, or the disk refuses the copy.
        StoreCorrupt: the copy is damaged.
    """
    if not database.is_file():
        raise StoreUnavailable(f"{database}: there is no database to back up; check 'state' in the settings")
    if to.exists():
        raise StoreUnavailable(f"{to}: the file exists; choose a new name, a backup never overwrites a file")
    part = to.with_name(f".{to.name}.{secrets.token_hex(8)}")
    try:
        # others may own the folder: a new file with a name that they cannot know, readable for this user only
        made = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreUnavailable(f"{to}: the backup failed: {error}") from error
    try:
        with (
            closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as source,
            closing(sqlite3.connect(part)) as copy,
        ):
            # Copy one snapshot. Without a read transaction, SQLite restarts the copy whenever another process writes,
            # so under load it would never end.
            source.isolation_level = None
            source.execute("BEGIN")
            source.execute("SELECT count(*) FROM sqlite_master").fetchone()
            source.backup(copy, pages=_PAGES, sleep=0.01)
            copy.execute("PRAGMA journal_mode=DELETE")
        check_backup(part)
        os.fsync(made)
        if not os.path.samestat(os.fstat(made), part.lstat()):
            raise StoreUnavailable(f"{to}: the backup failed: another user replaced the file while it was written")
        os.replace(part, to)
        fsync_directory(to.parent)
    except (OSError, sqlite3.Error) as error:
        raise StoreUnavailable(f"{to}: the backup failed: {error}") from error
    finally:
        os.close(made)
        part.unlink(missing_ok=True)
    return to.stat().st_size


def check_backup(backup: Path) -> None:
    """Check that a file is a complete database of this version.

    Raises:
        StoreCorrupt: it is damaged, not a remediator database, or has another schema.
    """
    try:
        with closing(sqlite3.connect(f"file:{backup}?mode=ro", uri=True)) as connection:
            found = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
            tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    except sqlite3.Error as error:
        raise StoreCorrupt(f"{backup}: not a usable backup: {error}") from error
    if found != "ok" or not tables:
        raise StoreCorrupt(f"{backup}: not a usable backup: {found if tables else 'the file is empty'}")
    engine = sqlalchemy.create_engine(f"sqlite:///file:{backup}?mode=ro&uri=true")
    try:
        with engine.connect() as connection:
            require_current(connection)
    finally:
        engine.dispose()


def restore_backup(backup: Path, database: Path) -> Path | None:
    """Replace a database by a backup. The caller holds the lock of the database.

    Returns:
        the new path of the replaced database; None if no database existed.

    Raises:
        StoreCorrupt: the backup is not usable; nothing was changed.
        StoreUnavailable: the disk refuses the copy.
    """
    check_backup(backup)
    fresh = database.with_name(f"{database.name}.restoring")
    kept = None
    if database.exists():
        number = 1
        while (kept := database.with_name(f"{database.name}.before-{number}")).exists():
            number += 1
    try:
        fresh.unlink(missing_ok=True)  # an interrupted restore left this file
        with backup.open("rb") as content, fresh.open("xb") as target:
            shutil.copyfileobj(content, target, MEBIBYTE)
            target.flush()
            os.fsync(target.fileno())
        if kept is not None:
            for suffix in ("", "-wal", "-shm"):
                source = Path(f"{database}{suffix}")
                if source.exists():
                    os.replace(source, f"{kept}{suffix}")
        os.replace(fresh, database)
        fsync_directory(database.parent)
    except OSError as error:
        raise StoreUnavailable(f"{database}: cannot be restored: {error}") from error
    return kept
