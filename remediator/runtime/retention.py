"""Move old audit entries from the database to sealed archive segments, which are verified together with the rest.

Order: first the segment is written, fsynced and read back. Then one transaction deletes the entries and records the
move. A crash between the two leaves the entries in both places; verification counts them once, and the next attempt
continues from there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy import Connection

from remediator.audit import GENESIS, Draft, Head, Kind, SealedEntry, archive
from remediator.audit.archive import Segment
from remediator.audit.merkle import CompactRange
from remediator.core import progress
from remediator.errors import AuditError, StoreCorrupt
from remediator.pipeline.context import PipelineContext
from remediator.runtime.checkpointing import LATEST_CHECKPOINT
from remediator.storage import Tx
from remediator.storage.repositories import audit, key_values

log: Any = structlog.get_logger("remediator.runtime.retention")

ARCHIVED = "archived"
"""Name of the stored value with the end of the archive."""
POLL = 60.0
"""Seconds between two checks."""


@dataclass(frozen=True, slots=True)
class RetentionSettings:
    """The entries to archive, and the folder for them.

    Args:
        folder: the folder of the archive.
        min_age: younger entries stay in the database.
        segment_entries: number of entries in a segment; fewer entries never make one.
    """

    folder: Path
    min_age: timedelta
    segment_entries: int


@dataclass(frozen=True, slots=True)
class _Due:
    start: Head
    rows: Sequence[SealedEntry]
    note: str


async def run_retention_loop(context: PipelineContext, settings: RetentionSettings) -> None:
    """Archive due entries; if the archive cannot be written, log the error and retry."""
    while True:
        try:
            while await archive_segment(context, settings):
                progress.report()
        except AuditError as error:
            log.warning("audit entries not archived, retrying", message=str(error), retry_in_s=POLL)
        progress.report(POLL)
        await context.clock.sleep(POLL)


async def archive_segment(context: PipelineContext, settings: RetentionSettings) -> bool:
    """Archive one segment if its entries are old enough and covered by a checkpoint. Return whether there was one.

    Raises:
        ArchiveError: the segment could not be sealed; nothing was deleted.
    """
    start = await context.store.read(live_log_start)
    left = await asyncio.to_thread(_find_left_segment, settings.folder, start)
    size = settings.segment_entries if left is None else left.end.seq - start.seq
    before = context.clock.now() - settings.min_age
    due = await context.store.read(lambda connection: _find_due(connection, size, before))
    if due is None:
        return False
    tree = CompactRange.load(due.start.seq, due.start.tree)
    for row in due.rows:
        tree.append(row.hash)
    end = Head(tree.size, due.rows[-1].hash, tree.dump())
    segment = await asyncio.to_thread(archive.write, settings.folder, due.start, due.rows, end, due.note)
    await context.store.write(lambda tx: _delete_archived(tx, context, due.start, segment))
    return True


def _find_left_segment(folder: Path, start: Head) -> Segment | None:
    """Return the segment after ``start`` that a crash left; it is kept, with the size that was configured then."""
    found = sorted(folder.glob(f"audit-{start.seq + 1:012d}-*.jsonl.gz"))
    return archive.load(found[0]) if found else None


def _find_due(connection: Connection, size: int, before: datetime) -> _Due | None:
    signed = key_values.get(connection, LATEST_CHECKPOINT)
    if signed is None:
        return None  # without a checkpoint, it could not be proved later that the archive was not changed
    start = live_log_start(connection)
    rows = list(audit.iterate(connection, after_seq=start.seq, limit=size))
    if len(rows) < size or rows[-1].time > before or rows[-1].seq > int(signed.value["size"]):
        return None
    return _Due(start, rows, str(signed.value["note"]))


def live_log_start(connection: Connection) -> Head:
    """Return where the database's part of the log begins: the head after the last archived entry.

    Raises:
        StoreCorrupt: the stored value was changed.
    """
    try:
        stored = key_values.get(connection, ARCHIVED)
        if stored is None:
            return GENESIS
        value = stored.value
        return Head(int(value["seq"]), bytes.fromhex(value["hash"]), bytes.fromhex(value["tree"]))
    except (KeyError, TypeError, ValueError):
        raise StoreCorrupt(
            "the stored end of the audit log's archive (value 'archived') was changed; "
            "restore the database from a backup"
        ) from None


def _delete_archived(tx: Tx, context: PipelineContext, start: Head, segment: Segment) -> None:
    if live_log_start(tx.connection) != start:
        return  # another replica has archived the same entries in the same file
    end = segment.end
    audit.delete_until(tx, end.seq)
    key_values.set(tx, ARCHIVED, {"seq": end.seq, "hash": end.hash.hex(), "tree": end.tree.hex()})
    data = {"file": segment.path.name, "first": start.seq + 1, "last": end.seq, "hash": end.hash.hex()}
    tx.append_audit(Draft(kind=Kind.ARCHIVE_SEALED, actor=context.actor, data=data))
