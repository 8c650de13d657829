"""Retention: what is old enough moves from the database to sealed segments, and stays verifiable with the rest.

First the file, durable and read back; then, in one transaction, the entries go and the log says so. A crash between
the two leaves entries in both places, which verification counts once, and the next look goes on from there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy import Connection

from remediator.audit import GENESIS, Draft, Head, Kind, SealedEntry, archive
from remediator.audit.archive import Segment
from remediator.audit.merkle import CompactRange
from remediator.errors import AuditError, StoreCorrupt
from remediator.pipeline.context import PipelineContext
from remediator.runtime.checkpointing import LATEST_CHECKPOINT
from remediator.storage import Tx
from remediator.storage.repositories import audit, key_values

log: Any = structlog.get_logger("remediator.runtime.retention")

ARCHIVED = "archived"
"""Name of the fact that says where the archive ends and the live log begins."""
LOOK = 60.0
"""Seconds between looks."""


@dataclass(frozen=True, slots=True)
class RetentionSettings:
    """What moves where."""

    folder: Path
    keep: timedelta
    """Younger entries stay."""
    size: int
    """Entries in a segment; fewer never make one."""


@dataclass(frozen=True, slots=True)
class _Due:
    start: Head
    rows: Sequence[SealedEntry]
    note: str


async def run_retention_loop(context: PipelineContext, settings: RetentionSettings) -> None:
    """Move what is due; a folder that cannot be written to is said, and tried again."""
    while True:
        try:
            while await archive_segment(context, settings):
                pass
        except AuditError as error:
            log.warning("old audit entries stay in the database", message=str(error))
        await context.clock.sleep(LOOK)


async def archive_segment(context: PipelineContext, settings: RetentionSettings) -> bool:
    """Move one segment, if a whole one is old enough and signed for; False if there is none.

    Raises:
        ArchiveError: it could not be sealed; nothing was deleted.
    """
    start = await context.store.read(live_log_start)
    left = await asyncio.to_thread(_left_behind, settings.folder, start)
    size = settings.size if left is None else left.end.seq - start.seq
    before = context.clock.now() - settings.keep
    due = await context.store.read(lambda connection: _due(connection, size, before))
    if due is None:
        return False
    end = _end(due.start, due.rows)
    segment = await asyncio.to_thread(archive.write, settings.folder, due.start, due.rows, end, due.note)
    await context.store.write(lambda tx: _moved(tx, context, due.start, segment))
    return True


def _left_behind(folder: Path, start: Head) -> Segment | None:
    """The file that a crash left, with the entries after ``start``: it has the size that was set then, and is kept."""
    found = sorted(folder.glob(f"audit-{start.seq + 1:012d}-*.jsonl.gz"))
    return archive.load(found[0]) if found else None


def _due(connection: Connection, size: int, before: datetime) -> _Due | None:
    signed = key_values.get(connection, LATEST_CHECKPOINT)
    if signed is None:
        return None  # without a checkpoint, nobody could tell later whether the archive is the one that was written
    start = live_log_start(connection)
    rows = list(audit.iterate(connection, after_seq=start.seq, limit=size))
    if len(rows) < size or rows[-1].time > before or rows[-1].seq > int(signed.value["size"]):
        return None
    return _Due(start, rows, str(signed.value["note"]))


def live_log_start(connection: Connection) -> Head:
    """Where the live log begins: after the last entry that has left.

    Raises:
        StoreCorrupt: what says so is not what was written.
    """
    try:
        fact = key_values.get(connection, ARCHIVED)
        return GENESIS if fact is None else _head(fact.value)
    except (KeyError, TypeError, ValueError):
        raise StoreCorrupt("what says where the audit log's archive ends (the fact 'archived') was changed") from None


def _head(value: Mapping[str, Any]) -> Head:
    return Head(int(value["seq"]), bytes.fromhex(value["hash"]), bytes.fromhex(value["tree"]))


def _end(start: Head, rows: Sequence[SealedEntry]) -> Head:
    tree = CompactRange.load(start.seq, start.tree)
    for row in rows:
        tree.append(row.hash)
    return Head(tree.size, rows[-1].hash, tree.dump())


def _moved(tx: Tx, context: PipelineContext, start: Head, segment: Segment) -> None:
    if live_log_start(tx.connection) != start:
        return  # another replica has moved it; the file is the same
    end = segment.end
    audit.delete_until(tx, end.seq)
    key_values.set(tx, ARCHIVED, {"seq": end.seq, "hash": end.hash.hex(), "tree": end.tree.hex()})
    data = {"file": segment.path.name, "first": start.seq + 1, "last": end.seq, "hash": end.hash.hex()}
    tx.append_audit(Draft(kind=Kind.ARCHIVE_SEALED, actor=context.actor, data=data))
