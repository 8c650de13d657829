"""Moving old entries out of the live database, segment by segment, into files that verify as the database did.

In this order, so that a crash at any moment loses nothing: the segment is written, synced, read back and verified;
then, in one transaction, the entries are deleted, the new beginning is noted, and an entry says so. What a crash leaves
is a file whose entries are still in the database: it is taken up, not written again.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy import Connection

from remediator import archive
from remediator.archive import ArchiveError, Segment
from remediator.audit import GENESIS, Draft, Head, Kind, SealedEntry, verify
from remediator.audit.merkle import Range
from remediator.checkpointing import LATEST
from remediator.engine import Engine
from remediator.records import audit, facts
from remediator.stores import Tx

log: Any = structlog.get_logger("remediator.archiving")

ARCHIVED = "archived"
"""Name of the fact that says where the live log begins: number, hash and tree of the last entry that was moved."""
LOOK = 60.0
"""Seconds between looks for something to move."""


@dataclass(frozen=True, slots=True)
class Archiving:
    """What is moved, and where to."""

    folder: Path
    keep: timedelta
    """How long an entry stays in the database at least."""
    segment: int
    """Entries in a file; only whole files are written, so the database keeps up to so many more."""


async def archive_forever(engine: Engine, settings: Archiving) -> None:
    """Every so often; what cannot be moved stays in the database and is said."""
    while True:
        try:
            while await archive_once(engine, settings):
                pass
        except ArchiveError as error:
            log.error("old entries stay in the database: they could not be moved to the archive", message=str(error))
        await engine.clock.sleep(LOOK)


async def archive_once(engine: Engine, settings: Archiving) -> bool:
    """Move one segment, if there is one that is old enough and wholly covered by a signed checkpoint.

    Raises:
        ArchiveError: it could not be written, or does not verify; nothing was deleted.
    """
    before = engine.clock.now() - settings.keep
    start, rows, note = await engine.store.read(lambda connection: _old(connection, settings.segment))
    left = await asyncio.to_thread(_left_behind, settings.folder, start)
    if left is not None:
        rows = rows[: left.end.seq - start.seq]
    elif len(rows) < settings.segment or rows[-1].time >= before or note is None or note[0] < rows[-1].seq:
        return False
    text = None if note is None else note[1]
    segment, digest = await asyncio.to_thread(_seal, settings.folder, start, rows, left, text)
    return await engine.store.write(lambda tx: _moved(tx, engine, segment, digest))


def _old(connection: Connection, limit: int) -> tuple[Head, list[SealedEntry], tuple[int, str] | None]:
    start = begins(connection)
    latest = facts.get(connection, LATEST)
    note = None if latest is None else (int(latest.value["size"]), str(latest.value["note"]))
    return start, list(audit.entries(connection, after_seq=start.seq, limit=limit)), note


def begins(connection: Connection) -> Head:
    """Where the live log begins: the last entry that is in the archive, or none."""
    fact = facts.get(connection, ARCHIVED)
    if fact is None:
        return GENESIS
    return Head(int(fact.value["seq"]), bytes.fromhex(fact.value["hash"]), bytes.fromhex(fact.value["tree"]))


def _left_behind(folder: Path, start: Head) -> Segment | None:
    """The file that a crash left after it was written, and before its entries were deleted."""
    found = sorted(folder.glob(f"audit-{start.seq + 1:012d}-*.jsonl.gz"))
    return archive.load(found[0]) if found else None


def _seal(
    folder: Path, start: Head, rows: Sequence[SealedEntry], left: Segment | None, note: str | None
) -> tuple[Segment, str]:
    tree = Range.load(start.seq, start.tree)
    tree.extend([row.hash for row in rows])
    end = Head(rows[-1].seq, rows[-1].hash, tree.dump()) if rows else start
    if left is None:
        segment = archive.write(folder, start, rows, end, note)
    else:
        segment = left
        if (left.start, left.end) != (start, end) or not verify(left.entries(), start=start, head=end, strict=True).ok:
            raise ArchiveError(f"the archive file {left.path.name} is there already, with other entries")
    return segment, hashlib.sha256(segment.path.read_bytes()).hexdigest()


def _moved(tx: Tx, engine: Engine, segment: Segment, digest: str) -> bool:
    if begins(tx.connection) != segment.start:
        return False  # another replica was faster, with the same entries
    end = segment.end
    facts.put(tx, ARCHIVED, {"seq": end.seq, "hash": end.hash.hex(), "tree": end.tree.hex(), "file": segment.path.name})
    audit.drop(tx, end.seq)
    data = {"first": segment.start.seq + 1, "last": end.seq, "file": segment.path.name, "sha256": digest}
    tx.audit(Draft(kind=Kind.ARCHIVE_SEALED, actor=engine.actor, data=data))
    log.info("old entries of the audit log were moved to the archive", **data)
    return True
