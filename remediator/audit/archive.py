"""The archive: files with log entries that were moved out of the database. They verify like the database.

A segment is a gzip file of lines: a header, then entries as in an export. The header holds the heads before the first
and after the last entry (:class:`remediator.audit.Head`, with the state of the Merkle tree). Later segments and the
live log can therefore be verified when older segments are gone. A later checkpoint that agrees proves that state too.
"""

from __future__ import annotations

import gzip
import zlib
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from itertools import chain
from pathlib import Path

import msgspec
from msgspec import Struct

from remediator.audit import GENESIS, Head, SealedEntry, verify
from remediator.audit.export import from_jsonl, to_jsonl
from remediator.core import untrusted_json
from remediator.core.local_files import open_regular, replacing
from remediator.errors import AuditError

FORMAT_VERSION = 1


class ArchiveError(AuditError):
    """A segment cannot be written, read or verified. Delete nothing from the database because of it."""


class _End(Struct):
    seq: int
    hash: str
    tree: str

    @classmethod
    def of(cls, head: Head) -> _End:
        return cls(head.seq, head.hash.hex(), head.tree.hex())

    def head(self) -> Head:
        head = Head(self.seq, bytes.fromhex(self.hash), bytes.fromhex(self.tree))
        head.root()  # raises ValueError for an invalid state
        return head


class _Header(Struct):
    archive: int
    start: _End
    end: _End
    checkpoint: str | None = None


class Segment(Struct, frozen=True):
    """One archive file."""

    path: Path
    start: Head
    end: Head
    checkpoint: str | None
    """The newest signed checkpoint at the time when the segment was written."""

    def entries(self) -> Iterator[SealedEntry]:
        """Yield the entries as stored in the file, not yet verified.

        Raises:
            ArchiveError: the file is damaged.
        """
        with _open(self.path) as lines:
            next(lines)
            yield from from_jsonl(lines)


def write(folder: Path, start: Head, rows: Sequence[SealedEntry], end: Head, checkpoint: str | None = None) -> Segment:
    """Write entries into an archive file, fsync it, read it back and verify it.

    Repeating the call after a crash is harmless: the file is either complete or absent, and its name and content
    depend only on the entries.

    Raises:
        ArchiveError: the entries do not lead from ``start`` to ``end``, or the file could not be written.
    """
    if not rows:
        raise ArchiveError("cannot write an archive file without entries")
    path = folder / f"audit-{rows[0].seq:012d}-{rows[-1].seq:012d}.jsonl.gz"
    segment = Segment(path, start, end, checkpoint)
    _check(segment, rows)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            header = _Header(FORMAT_VERSION, _End.of(segment.start), _End.of(segment.end), segment.checkpoint)
            # write no file name and no time: the same entries must give the same bytes
            with replacing(segment.path) as file, gzip.GzipFile("", "wb", fileobj=file, mtime=0) as packed:
                packed.write(msgspec.json.encode(header) + b"\n")
                packed.writelines(map(to_jsonl, rows))
    except OSError as error:
        raise ArchiveError(f"cannot write the archive file {path.name!r}: {error.strerror}") from error
    written = load(path)
    _check(written, written.entries())
    if (written.start, written.end) != (start, end):
        raise ArchiveError(f"the archive file {path.name!r} already exists and contains other entries")
    return written


def load(path: Path) -> Segment:
    """Read the header of an archive file. The entries are not verified.

    Raises:
        ArchiveError: the file is not a segment.
    """
    with _open(path) as lines:
        try:
            header = untrusted_json.decode(next(lines, b""), _Header)
            start, end = header.start.head(), header.end.head()
        except ValueError as error:
            raise ArchiveError(f"the archive file {path.name!r} has no valid header: {error}") from error
    if header.archive != FORMAT_VERSION:
        raise ArchiveError(
            f"the archive file {path.name!r} has the format version {header.archive}; "
            f"this release reads version {FORMAT_VERSION}"
        )
    return Segment(path, start, end, header.checkpoint)


def list_segments(folder: Path) -> list[Segment]:
    """Return all segments in a folder, oldest first."""
    return sorted((load(path) for path in folder.glob("audit-*.jsonl.gz")), key=lambda segment: segment.start.seq)


def file_at(folder: Path, at: datetime) -> str | None:
    """Return the name of the archive file that covers an instant, or None.

    Uses a binary search that reads only first entries: an archive may have thousands of files.
    """
    files = sorted(folder.glob("audit-*.jsonl.gz"))
    place = bisect_right(files, at, key=_first_time)
    if not place or (place == len(files) and max(row.time for row in load(files[-1]).entries()) < at):
        return None
    return files[place - 1].name


def entries_of_run(folder: Path, run: str, since: datetime, until: datetime) -> Iterator[SealedEntry]:
    """Yield the archived entries of a run in order. Reads only the files of that period.

    Raises:
        ArchiveError: one of these files is damaged.
    """
    files = sorted(folder.glob("audit-*.jsonl.gz"))
    for path in files[max(0, bisect_right(files, since, key=_first_time) - 1) :]:
        for place, row in enumerate(load(path).entries()):
            if not place and row.time > until:
                return
            if row.run == run:
                yield row


def _first_time(path: Path) -> datetime:
    return next(load(path).entries()).time


def join_live(archived: Sequence[Segment], live: Iterable[SealedEntry]) -> tuple[Head, Iterator[SealedEntry]]:
    """Return the head before the first entry, and the entries of the archive and the live log as one log.

    After a crash between archiving and deleting, entries are in both places. An identical copy counts once. A copy that
    differs is kept, so that verification reports it.
    """
    start = archived[0].start if archived else GENESIS
    end = archived[-1].end if archived else GENESIS
    remaining = (row for row in live if row.seq > end.seq or (row.seq == end.seq and row.hash != end.hash))
    return start, chain(chain.from_iterable(segment.entries() for segment in archived), remaining)


def _check(segment: Segment, rows: Iterable[SealedEntry]) -> None:
    result = verify(rows, start=segment.start, head=segment.end, strict=True)
    if not result.ok:
        raise ArchiveError(f"the archive file {segment.path.name!r} does not verify: {result.findings[0].message}")


@contextmanager
def _open(path: Path) -> Iterator[Iterator[bytes]]:
    """Open a gzip file and yield its lines. Any damage raises an :class:`ArchiveError` that names the file."""
    try:
        with open_regular(path, follow=False) as packed, gzip.open(packed, "rb") as file:
            yield file
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or f"it is damaged: {error}"
        raise ArchiveError(f"cannot read the archive file {path.name!r}: {reason}") from error
