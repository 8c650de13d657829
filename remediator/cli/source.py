"""Where the commands find the audit log: in the service's database, opened only to read."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from urllib.parse import quote

import sqlalchemy
import sqlalchemy.exc
from sqlalchemy import Connection, NullPool

from remediator import archive
from remediator.archive import Segment
from remediator.archiving import ARCHIVED
from remediator.audit import GENESIS, Head, SealedEntry
from remediator.audit.reader import AuditReader
from remediator.config import Config
from remediator.errors import StoreUnavailable
from remediator.loader import load_config
from remediator.records import audit as records
from remediator.records import facts
from remediator.service import read_only


class DatabaseLog:
    """The log in a database."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def entries(
        self,
        after_seq: int = 0,
        limit: int | None = None,
        run: str | None = None,
        kind: str | None = None,
        since: datetime | None = None,
    ) -> Iterable[SealedEntry]:
        """See :meth:`AuditReader.entries`."""
        return records.entries(self._connection, after_seq, limit, run, kind, since)

    def head(self) -> Head:
        """See :meth:`AuditReader.head`."""
        return records.head(self._connection)

    def moved(self) -> str | None:
        """The archive's newest file, as the database remembers it."""
        fact = facts.get(self._connection, ARCHIVED)
        return None if fact is None else str(fact.value["file"])


class WholeLog:
    """An archive, and the live log after it, as one log."""

    def __init__(self, segments: Sequence[Segment], live: AuditReader) -> None:
        self._segments = segments
        self._live = live

    @property
    def start(self) -> Head:
        """Where it begins: nowhere, or where the oldest file that was kept says."""
        return self._segments[0].start if self._segments else GENESIS

    def entries(
        self,
        after_seq: int = 0,
        limit: int | None = None,
        run: str | None = None,
        kind: str | None = None,
        since: datetime | None = None,
    ) -> Iterator[SealedEntry]:
        """See :meth:`AuditReader.entries`."""
        left = limit
        for row in self._archived(after_seq):
            if (run in (None, row.run)) and (kind in (None, row.kind)) and (since is None or row.time >= since):
                if left == 0:
                    return
                yield row
                left = None if left is None else left - 1
        end = self._segments[-1].end.seq if self._segments else 0
        yield from self._live.entries(max(after_seq, end), left, run, kind, since)

    def _archived(self, after_seq: int) -> Iterator[SealedEntry]:
        for segment in self._segments:
            if segment.end.seq > after_seq:
                yield from (row for row in segment.entries() if row.seq > after_seq)

    def head(self) -> Head:
        """See :meth:`AuditReader.head`."""
        return self._live.head()


def archived(folder: Path | None, database: Path | None, config_path: Path) -> list[Segment]:
    """The archive's files: in the folder that was named, or else where the service puts them, if there are any.

    Raises:
        ArchiveError: one of them is none.
    """
    if folder is None and database is not None:
        folder = database.parent / "archive"
    elif folder is None:
        folder = load_config(config_path, Config).archive
    return archive.segments(folder) if folder is not None and folder.is_dir() else []


@contextmanager
def audit_log(database: Path | None, config_path: Path) -> Iterator[DatabaseLog]:
    """The log in a SQLite file, or else in the database that the settings name; a service may have it open.

    Raises:
        ConfigurationError: no file was named, and the settings cannot be used.
        StoreUnavailable: it cannot be read, or is no remediator's database.
    """
    if database is None:
        with read_only(load_config(config_path, Config)) as connection:
            yield DatabaseLog(connection)
        return
    engine = sqlalchemy.create_engine("sqlite://", creator=lambda: _open(database), poolclass=NullPool)
    try:
        with engine.connect() as connection:
            yield DatabaseLog(connection)
    except sqlalchemy.exc.DBAPIError as error:
        raise StoreUnavailable(f"{database} cannot be read: {error.orig}") from None
    finally:
        engine.dispose()


def _open(database: Path) -> sqlite3.Connection:
    # not by way of an URL of SQLAlchemy's, which would lose what is special in a file's name
    return sqlite3.connect(f"file:{quote(str(database.resolve()))}?mode=ro", uri=True)
