"""Databases with the schema of this version, copied from one template, because a migration for each test is slow."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import sqlalchemy

from remediator.core.clock import Clock
from remediator.storage.migrate import migrate
from remediator.storage.sqlite import SqliteStore


def new_file(path: Path) -> Path:
    """Write an SQLite file with the schema and no rows, and return its path."""
    path.write_bytes(_migrated())
    return path


def new_store(folder: Path, clock: Clock) -> SqliteStore:
    """Open an empty store in a folder."""
    return SqliteStore(new_file(folder / "remediator.db"), clock)


def migrate_database(url: str | sqlalchemy.URL) -> None:
    """Apply the schema to a database."""
    engine = sqlalchemy.create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        migrate(connection)
    engine.dispose()


@cache
def _migrated() -> bytes:
    with TemporaryDirectory() as folder:
        path = Path(folder, "remediator.db")
        migrate_database(f"sqlite:///{path}")
        return path.read_bytes()
