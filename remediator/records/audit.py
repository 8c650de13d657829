"""Reading the audit log back: what ``remediator audit`` and a run's story are made from."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, select

from remediator.audit import Head, SealedEntry
from remediator.stores.schema import audit as table
from remediator.stores.sequencer import read_head

_PAGE = 5000


def head(connection: Connection) -> Head:
    """Where the log ends."""
    return read_head(connection)


def of_run(connection: Connection, run_id: str) -> list[SealedEntry]:
    """All entries of a run, in order."""
    return [
        _sealed(row) for row in connection.execute(select(table).where(table.c.run_id == run_id).order_by(table.c.seq))
    ]


def entries(
    connection: Connection,
    after_seq: int = 0,
    limit: int | None = None,
    run: str | None = None,
    kind: str | None = None,
    since: datetime | None = None,
) -> Iterator[SealedEntry]:
    """Entries in order, page by page, so that a long log never fills the memory."""
    left = limit
    while left is None or left > 0:
        size = _PAGE if left is None else min(left, _PAGE)
        statement = select(table).where(table.c.seq > after_seq).order_by(table.c.seq).limit(size)
        for column, value in ((table.c.run_id, run), (table.c.kind, kind)):
            if value is not None:
                statement = statement.where(column == value)
        if since is not None:
            statement = statement.where(table.c.at >= since)
        page = [_sealed(row) for row in connection.execute(statement)]
        yield from page
        if len(page) < size:
            return
        after_seq = page[-1].seq
        left = None if left is None else left - len(page)


def _sealed(row: Row[Any]) -> SealedEntry:
    return SealedEntry(row.seq, row.at, row.kind, row.run_id, row.episode_id, bytes(row.canonical), bytes(row.hash))
