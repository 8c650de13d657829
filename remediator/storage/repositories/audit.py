"""Reading the audit log back: what ``remediator audit`` and a run's story are made from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Any

from sqlalchemy import BigInteger, Connection, Row, delete, select, type_coerce

from remediator.audit import Head, SealedEntry, decode
from remediator.audit.canonical import NotCanonical
from remediator.audit.entry import EPOCH
from remediator.core.clock import from_micros
from remediator.storage import Tx
from remediator.storage.audit_writer import read_head
from remediator.storage.schema import audit as table

_PAGE = 5000
WINDOW = 200_000
"""How many entries a page looks through for one kind."""
_AS_IT_STANDS = [type_coerce(column, BigInteger).label("at") if column is table.c.at else column for column in table.c]
"""Times as numbers: one that none can be is for verification to name, not for the driver to stumble over."""


def get_head(connection: Connection) -> Head:
    """Where the log ends."""
    return read_head(connection)


def oldest_time(connection: Connection) -> datetime | None:
    """When the oldest entry was written that has not left for the archive; None if all have."""
    return connection.execute(select(table.c.at).order_by(table.c.seq).limit(1)).scalar()


def is_complete_since(connection: Connection, at: datetime) -> bool:
    """Whether everything that was written since this instant is still in the database, or nothing has left it yet."""
    oldest = connection.execute(select(*_AS_IT_STANDS).order_by(table.c.seq).limit(1)).first()
    return oldest is None or oldest.seq == 1 or _instant(oldest.at) < at


def list_for_run(connection: Connection, run_id: str) -> list[SealedEntry]:
    """All entries of a run, in order."""
    return [
        _sealed(row)
        for row in connection.execute(select(*_AS_IT_STANDS).where(table.c.run_id == run_id).order_by(table.c.seq))
    ]


def iterate(
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
        statement = select(*_AS_IT_STANDS).where(table.c.seq > after_seq).order_by(table.c.seq).limit(size)
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


def delete_until(tx: Tx, until: int) -> None:
    """Delete the entries up to this one, which are sealed elsewhere."""
    tx.connection.execute(delete(table).where(table.c.seq <= until))


def list_newest(
    connection: Connection, limit: int, before: int | None = None, run: str | None = None, kind: str | None = None
) -> list[SealedEntry]:
    """The last entries, newest first; ``before`` is the number of the last one on the page before.

    By kind it looks through :data:`WINDOW` entries and no more, since kinds have no index: ``remediator audit search``
    looks through all.
    """
    statement = select(*_AS_IT_STANDS).order_by(table.c.seq.desc()).limit(limit)
    if before is not None:
        statement = statement.where(table.c.seq < before)
    if kind is not None and run is None:
        statement = statement.where(table.c.seq > (before or get_head(connection).seq) - WINDOW)
    for column, value in ((table.c.run_id, run), (table.c.kind, kind)):
        if value is not None:
            statement = statement.where(column == value)
    return [_sealed(row) for row in connection.execute(statement)]


def find_broken(shown: Sequence[SealedEntry], *, contiguous: bool) -> int | None:
    """The number of the first entry that does not match its hash, or the entry before it; None if all do.

    Args:
        shown: newest first.
        contiguous: no entry was left out between them, so that the chain can be followed too.
    """
    for item in reversed(shown):
        if hashlib.sha256(b"\0" + item.canonical).digest() != item.hash:
            return item.seq
    for later, earlier in pairwise(shown) if contiguous else ():
        if later.seq != earlier.seq + 1 or _prev(later) != earlier.hash.hex():
            return later.seq
    return None


def _prev(row: SealedEntry) -> str | None:
    try:
        return decode(row.canonical).prev
    except NotCanonical:
        return None


def _sealed(row: Row[Any]) -> SealedEntry:
    """A row as it stands. SQLite keeps any type in any column, and an edit by hand easily leaves text where bytes were:
    what no entry can be is kept in its place, and does not verify."""
    canonical, stored = _bytes(row.canonical), _bytes(row.hash)
    return SealedEntry(row.seq, _instant(row.at), row.kind, row.run_id, row.episode_id, canonical, stored)


def _bytes(value: object) -> bytes:
    if isinstance(value, bytes | memoryview):
        return bytes(value)
    return str(value).encode("utf-8", "surrogateescape")


def _instant(value: object) -> datetime:
    try:
        return from_micros(value) if isinstance(value, int) else EPOCH
    except OverflowError:
        return EPOCH
