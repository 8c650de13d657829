"""The settings of each connection to SQLite that writes: those of the service and those of commands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from remediator.errors import StoreUnavailable

STATEMENTS = (
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",
    "PRAGMA foreign_keys=ON",
    "PRAGMA cache_size=-8000",
    "PRAGMA temp_store=MEMORY",  # a read-only root may have no folder for temporary files
)
BUSY_TIMEOUT = 5.0
"""Seconds that a connection waits for another one that writes."""
_REQUIRED: dict[str, Any] = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "temp_store": 2}


def verify(connection: Connection, path: Path | str | None) -> None:
    """Check the settings on which durability depends. Some file systems silently refuse WAL.

    Raises:
        StoreUnavailable: SQLite did not accept a setting.
    """
    for name, value in _REQUIRED.items():
        found = connection.exec_driver_sql(f"PRAGMA {name}").scalar()
        if found != value:
            raise StoreUnavailable(f"{path}: SQLite has {name}={found}, not {value}; use a local, writable disk")
