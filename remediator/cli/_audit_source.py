"""The audit log as the commands read it: the live log in the database, read-only, and the archive before it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
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
from remediator.runtime.checkpointing import LATEST_CHECKPOINT
from remediator.runtime.retention import live_log_start
from remediator.runtime.settings import archive_folder
from remediator.runtime.store_access import read_only_connection
from remediator.storage.repositories import audit as records
from remediator.storage.repositories import key_values, state_rows
from remediator.storage.repositories.state_rows import StateRows


class DatabaseLog:
    """The live log in a database."""

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

    def stored_checkpoints(self) -> list[str]:
        """Return the newest signed checkpoint in the database, or an empty text."""
        stored = key_values.get(self._connection, LATEST_CHECKPOINT)
        note = None if stored is None or not isinstance(stored.value, dict) else stored.value.get("note")
        return [note] if isinstance(note, str) else []

    def has_history(self) -> bool:
        """Return whether the database has rows whose entries must be in the log."""
        return state_rows.has_history(self._connection)

    def state(self) -> StateRows:
        """Return the rows that are compared with the log."""
        return state_rows.read_state(self._connection)

    def moved(self) -> int:
        """Return the number of the last entry that was moved to the archive, as recorded in the database."""
        return live_log_start(self._connection).seq


class WholeLog:
    """Sealed segments and the live log after them, as one log."""

    def __init__(self, segments: Sequence[Segment], live: AuditReader) -> None:
        self._segments = segments
        self._live = live

    @property
    def start(self) -> Head:
        """Return the state before its first entry: the genesis, or the start of the oldest segment."""
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
            for segment in self._segments
            if segment.end.seq > after_seq
            for row in segment.entries()
            if row.seq > after_seq
            and run in (None, row.run)
            and kind in (None, row.kind)
            and (since is None or row.time >= since)
        )
        live = self._live.entries(max(after_seq, end), limit, run, kind, since)
        yield from islice(chain(chosen, live), limit)

    def head(self) -> Head:
        """See :meth:`AuditReader.head`."""
        return self._live.head()


@dataclass(frozen=True, slots=True)
class LogPlace:
    """The place of the log, as the options of a command name it."""

    config_path: Path
    database: Path | None = None
    """A SQLite file; None: the database of the settings."""
    archive: Path | None = None
    """The folder of the sealed segments.

    None: use the folder of the settings, or ``archive`` beside the SQLite file.
    """

    def segments(self) -> list[Segment]:
        """Return the sealed segments.

        Raises:
            ArchiveError: a file in the folder is not a valid segment.
        """
        if self.archive is not None:
            return archive.list_segments(self.archive)
        if self.database is not None:
            return archive.list_segments(self.database.parent / "archive")
        folder = archive_folder(load_config(self.config_path, Config))
        return archive.list_segments(folder) if folder is not None else []

    @contextmanager
    def open(self) -> Iterator[DatabaseLog]:
        """Open the live log; a service may be using it.

        Raises:
            ConfigurationError: no file was given, and the settings cannot be used.
            StoreUnavailable: the database cannot be read, or it is not a database of remediator.
        """
        if self.database is None:
            with read_only_connection(load_config(self.config_path, Config)) as connection:
                _any_text(connection)
                yield DatabaseLog(connection)
            return
        # a URL of SQLAlchemy would lose special characters in the file's name
        address = f"file:{quote(str(self.database.resolve()))}?mode=ro"
        engine = sqlalchemy.create_engine(
            "sqlite://", creator=lambda: sqlite3.connect(address, uri=True), poolclass=NullPool
        )
        try:
            with engine.connect() as connection:
                _any_text(connection)
                yield DatabaseLog(connection)
        except sqlalchemy.exc.DBAPIError as error:
            raise StoreUnavailable(f"{self.database} cannot be read: {error.orig}") from None
        finally:
            engine.dispose()


def _any_text(connection: Connection) -> None:
    """Make SQLite return text that is not valid UTF-8 too, so that verification can report it."""
    raw = connection.connection.dbapi_connection
    if isinstance(raw, sqlite3.Connection):
        raw.text_factory = partial(str, encoding="utf-8", errors="surrogateescape")
