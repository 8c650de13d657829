"""The single sequencer of the audit log: the row in ``audit_head``, locked while entries are numbered and chained."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection, bindparam, insert, select, update

from remediator.audit import Draft, Head, Redactor, seal
from remediator.errors import StoreCorrupt
from remediator.storage.prepared import Prepared
from remediator.storage.schema import audit, audit_head


def append(connection: Connection, drafts: Sequence[Draft], now: datetime, redactor: Redactor) -> None:
    """Number, chain and store entries inside the caller's transaction.

    Call this after the transaction has locked all its other rows. Because every replica locks the head last, two
    replicas cannot deadlock on it, and the lock is held only until the commit.

    The writer first uses the head that this connection wrote last, without reading the row. If the row has another
    number and hash, because another process wrote or this process rolled back, nothing is stored and the row is read.
    """
    last: Head | None = connection.info.get(_LAST_HEAD)
    if last is not None and _append_to(connection, last, drafts, now, redactor):
        return
    if not _append_to(connection, read_head(connection, lock=True), drafts, now, redactor):
        raise StoreCorrupt("the audit log has more than one head; restore the database from a backup")


_LAST_HEAD = "last head of the audit log"


def _append_to(connection: Connection, head: Head, drafts: Sequence[Draft], now: datetime, redactor: Redactor) -> bool:
    """Store the entries after this head, unless it is not the head of the log. Return whether it was."""
    entries, after = seal(head, drafts, now, redactor)
    values = {"seq": after.seq, "hash": after.hash, "tree": after.tree, "last_seq": head.seq, "last_hash": head.hash}
    if connection.execute(_ADVANCE, values).rowcount != 1:
        return False
    connection.execute(
        _APPEND,
        [
            {
                "seq": entry.seq,
                "at": entry.time,
                "kind": entry.kind,
                "run_id": entry.run,
                "episode_id": entry.episode,
                "canonical": entry.canonical,
                "hash": entry.hash,
            }
            for entry in entries
        ],
    )
    connection.info[_LAST_HEAD] = after
    return True


_APPEND = Prepared(insert(audit))
_ADVANCE = Prepared(
    update(audit_head)
    .where(audit_head.c.seq == bindparam("last_seq"), audit_head.c.hash == bindparam("last_hash"))
    .values({name: bindparam(name) for name in ("seq", "hash", "tree")})
)


def read_head(connection: Connection, *, lock: bool = False) -> Head:
    """Return the head of the log: number and hash of the last entry, and the Merkle range over all entries.

    Raises:
        StoreCorrupt: the head is missing or has the wrong types.
    """
    row = connection.execute(_HEAD_LOCKED if lock else _HEAD).first()
    if row is None:
        raise StoreCorrupt("the audit log has no head; restore the database from a backup")
    if not (isinstance(row.seq, int) and isinstance(row.hash, bytes) and isinstance(row.tree, bytes)):
        raise StoreCorrupt("the head of the audit log was changed; restore the database from a backup")
    return Head(row.seq, row.hash, row.tree)


_SELECTED = select(audit_head.c.seq, audit_head.c.hash, audit_head.c.tree)
_HEAD, _HEAD_LOCKED = Prepared(_SELECTED), Prepared(_SELECTED.with_for_update())
