"""Where the commands find the audit log: in the service's database, opened only to read."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from itertools import chain, islice
from pathlib import Path
from urllib.parse import quote

import sqlalchemy
import sqlalchemy.exc
from sqlalchemy import Connection, NullPool

from remediator.audit import GENESIS, Head, SealedEntry, archive
from remediator.audit.archive import Segment
from remediator.audit.reader import AuditReader
from remediator.config import Config
from remediator.errors import StoreUnavailable
from remediator.playbooks.loader import load_config
from remediator.runtime.retention import live_log_start
from remediator.runtime.settings import archive_folder
from remediator.service import read_only_connection
from remediator.storage.repositories import audit as records


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
        return records.iterate(self._connection, after_seq, limit, run, kind, since)

    def head(self) -> Head:
        """See :meth:`AuditReader.head`."""
        return records.get_head(self._connection)

    def moved(self) -> int:
        """Up to which number entries have moved to the archive, as the database remembers it."""
        return live_log_start(self._connection).seq


def sealed(folder: Path | None, database: Path | None, config_path: Path) -> list[Segment]:
    """The sealed segments: of the folder that was named, or where the settings, or the service by itself, have them.

    Raises:
        ArchiveError: a file there is none.
    """
    if folder is None:
        folder = archive_folder(load_config(config_path, Config)) if database is None else database.parent / "archive"
    return archive.list_segments(folder) if folder is not None else []


class WholeLog:
    """Sealed segments, and the live log after them, as one log."""

    def __init__(self, segments: Sequence[Segment], live: AuditReader) -> None:
        self._segments = segments
        self._live = live

    @property
    def start(self) -> Head:
        """Where it begins: at the beginning, or where the oldest file that was kept says."""
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
        end = self._segments[-1].end.seq if self._segments else 0
        chosen = (
            row
            for row in self._archived(after_seq)
            if run in (None, row.run) and kind in (None, row.kind) and (since is None or row.time >= since)
        )
        live = self._live.entries(max(after_seq, end), limit, run, kind, since)
        yield from islice(chain(chosen, live), limit)

    def _archived(self, after_seq: int) -> Iterator[SealedEntry]:
        for segment in self._segments:
            if segment.end.seq > after_seq:
                yield from (row for row in segment.entries() if row.seq > after_seq)

    def head(self) -> Head:
        """See :meth:`AuditReader.head`."""
        return self._live.head()


@contextmanager
def audit_log(database: Path | None, config_path: Path) -> Iterator[DatabaseLog]:
    """The log in a SQLite file, or else in the database that the settings name; a service may have it open.

    Raises:
        ConfigurationError: no file was named, and the settings cannot be used.
        StoreUnavailable: it cannot be read, or is no remediator's database.
    """
    if database is None:
        with read_only_connection(load_config(config_path, Config)) as connection:
            _any_text(connection)
            yield DatabaseLog(connection)
        return
    engine = sqlalchemy.create_engine("sqlite://", creator=lambda: _open(database), poolclass=NullPool)
    try:
        with engine.connect() as connection:
            _any_text(connection)
            yield DatabaseLog(connection)
    except sqlalchemy.exc.DBAPIError as error:
        raise StoreUnavailable(f"{database} cannot be read: {error.orig}") from None
    finally:
        engine.dispose()


def _open(database: Path) -> sqlite3.Connection:
    # not by way of an URL of SQLAlchemy's, which would lose what is special in a file's name
    return sqlite3.connect(f"file:{quote(str(database.resolve()))}?mode=ro", uri=True)


def _any_text(connection: Connection) -> None:
    """Read text that is none, as SQLite keeps it if told to: it is for verification to name."""
    raw = connection.connection.dbapi_connection
    if isinstance(raw, sqlite3.Connection):
        raw.text_factory = partial(str, encoding="utf-8", errors="surrogateescape")
