"""Where the commands find the audit log: in the service's database, opened only to read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from urllib.parse import quote

import sqlalchemy
import sqlalchemy.exc
from sqlalchemy import Connection

from remediator.audit import Head, SealedEntry
from remediator.audit.reader import AuditReader
from remediator.errors import InputError, StoreUnavailable
from remediator.records import audit as records


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


@contextmanager
def audit_log(database: Path | None) -> Iterator[AuditReader]:
    """The log in a SQLite file, whether or not a service has it open.

    Raises:
        InputError: no file was named.
        StoreUnavailable: it cannot be read, or is no remediator's database.
    """
    if database is None:
        raise InputError("say which database: --db FILE, or the variable REMEDIATOR_DB")
    engine = sqlalchemy.create_engine(f"sqlite:///file:{quote(str(database.resolve()))}?mode=ro&uri=true")
    try:
        with engine.connect() as connection:
            yield DatabaseLog(connection)
    except sqlalchemy.exc.DBAPIError as error:
        raise StoreUnavailable(f"{database} cannot be read: {error.orig}") from None
    finally:
        engine.dispose()
