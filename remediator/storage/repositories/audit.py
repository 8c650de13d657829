"""Read the audit log, for ``remediator audit`` and the timeline of a run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    LargeBinary,
    Row,
    bindparam,
    delete,
    func,
    literal,
    select,
    type_coerce,
)

from remediator.audit import Head, SealedEntry, decode
from remediator.audit.canonical import NotCanonical
from remediator.audit.entry import EPOCH
from remediator.core.clock import from_micros
from remediator.storage import Tx
from remediator.storage.audit_writer import read_head
from remediator.storage.grants import DELETE_ARCHIVED
from remediator.storage.prepared import Prepared
from remediator.storage.schema import audit as table

_PAGE = 5000
WINDOW = 200_000
"""Number of entries that one page searches for a kind."""
_RAW_COLUMNS = [type_coerce(column, BigInteger).label("at") if column is table.c.at else column for column in table.c]
"""Times as integers: an impossible time must be reported by the verification, not fail in the driver."""


def get_head(connection: Connection) -> Head:
    """Return the head of the log."""
    return read_head(connection)


def oldest_time(connection: Connection) -> datetime | None:
    """Return the time of the oldest entry in the database; None if all entries are in the archive."""
    return connection.execute(select(table.c.at).order_by(table.c.seq).limit(1)).scalar()


def newest_time(connection: Connection) -> datetime | None:
    """Return the time of the newest entry in the database; None if all entries are in the archive."""
    return connection.execute(select(table.c.at).order_by(table.c.seq.desc()).limit(1)).scalar()


def is_complete_since(connection: Connection, at: datetime) -> bool:
    """Return whether the database has every entry since this instant."""
    oldest = connection.execute(select(*_RAW_COLUMNS).order_by(table.c.seq).limit(1)).first()
    return oldest is None or oldest.seq == 1 or _instant(oldest.at) < at


def list_for_run(connection: Connection, run_id: str) -> list[SealedEntry]:
    """Return the entries of a run, oldest first."""
    return [
        _sealed(row)
        for row in connection.execute(select(*_RAW_COLUMNS).where(table.c.run_id == run_id).order_by(table.c.seq))
    ]


def newest_for_run(connection: Connection, run_id: str, kind: str) -> SealedEntry | None:
    """Return the last entry of a kind about a run; None if there is no such entry."""
    row = connection.execute(_NEWEST_OF_RUN, {"run": run_id, "kind": kind}).first()
    return None if row is None else _sealed(row)


_NEWEST_OF_RUN = Prepared(
    select(*_RAW_COLUMNS)
    .where(table.c.run_id == bindparam("run"), table.c.kind == bindparam("kind"))
    .order_by(table.c.seq.desc())
    .limit(1)
)


def iterate(
    connection: Connection,
    after_seq: int = 0,
    limit: int | None = None,
    run: str | None = None,
    kind: str | None = None,
    since: datetime | None = None,
) -> Iterator[SealedEntry]:
    """Iterate over entries in order. They are read page by page, so that a long log does not fill the memory."""
    left = limit
    while left is None or left > 0:
        size = _PAGE if left is None else min(left, _PAGE)
        statement = select(*_RAW_COLUMNS).where(table.c.seq > after_seq).order_by(table.c.seq).limit(size)
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
    """Delete the entries up to this number; the caller has sealed them in the archive."""
    if tx.connection.dialect.name == "postgresql":  # the role of the service may not delete entries itself
        tx.connection.execute(select(getattr(func, DELETE_ARCHIVED)(until)))
    else:
        tx.connection.execute(delete(table).where(table.c.seq <= until))


def list_newest(
    connection: Connection,
    limit: int,
    before: int | None = None,
    run: str | None = None,
    kind: str | None = None,
    *,
    actor: str | None = None,
    hidden: Collection[str] = (),
) -> list[SealedEntry]:
    """Return the last entries, newest first.

    A search by kind or actor covers only :data:`WINDOW` entries, because they have no index. ``remediator audit
    search`` covers the whole log.

    Args:
        connection: to the store.
        limit: most entries to return.
        before: the number of the last entry on the previous page.
        run: only entries of this run.
        kind: only entries of this kind.
        actor: only entries of this person or process.
        hidden: kinds to leave out.
    """
    statement = select(*_RAW_COLUMNS).order_by(table.c.seq.desc()).limit(limit)
    if before is not None:
        statement = statement.where(table.c.seq < before)
    if (kind is not None or actor is not None or hidden) and run is None:
        statement = statement.where(table.c.seq > (before or get_head(connection).seq) - WINDOW)
    for column, value in ((table.c.run_id, run), (table.c.kind, kind)):
        if value is not None:
            statement = statement.where(column == value)
    if hidden:
        statement = statement.where(table.c.kind.not_in(hidden))
    if actor is not None:
        text = f'"actor":{json.dumps(actor, ensure_ascii=False)}'.encode()
        found = func.instr if connection.dialect.name == "sqlite" else _position
        statement = statement.where(found(table.c.canonical, text) > 0)
    return [_sealed(row) for row in connection.execute(statement)]


def _position(column: ColumnElement[Any], text: bytes) -> ColumnElement[int]:
    return func.position(literal(text, LargeBinary).op("IN")(column))


def find_broken(shown: Sequence[SealedEntry], *, contiguous: bool) -> int | None:
    """Return the number of the first entry that does not match its hash or its predecessor; None if all match.

    Args:
        shown: newest first.
        contiguous: the entries are consecutive, so that the chain is checked as well.
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
    """Return a row as an entry. SQLite accepts any type in any column, and a manual edit may leave text in place of
    bytes. Such a value is kept unchanged, so that the verification reports it."""
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
