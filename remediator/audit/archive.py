"""Sealed segments: stretches of the log that left the database, in files that verify as the database did.

A segment is gzip over lines: a header, then entries as in an export. The header tells where the segment begins and
ends (:class:`remediator.audit.Head`, with the state of the Merkle tree), so that the segments after it and the live
log can be verified even when older ones are gone; a checkpoint that agrees further on proves that state as well.
"""

from __future__ import annotations

import gzip
import os
import secrets
import zlib
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import chain
from pathlib import Path

import msgspec
from msgspec import Struct

from remediator.audit import GENESIS, Head, SealedEntry, verify
from remediator.audit.export import from_jsonl, to_jsonl
from remediator.audit.keys import sync_folder
from remediator.errors import AuditError

FORM = 1


class ArchiveError(AuditError):
    """A segment that cannot be written, read or believed. Nothing may be deleted on its account."""


class _End(Struct):
    seq: int
    hash: str
    tree: str

    @classmethod
    def of(cls, head: Head) -> _End:
        return cls(head.seq, head.hash.hex(), head.tree.hex())

    def head(self) -> Head:
        head = Head(self.seq, bytes.fromhex(self.hash), bytes.fromhex(self.tree))
        head.root()  # refuses a state that is none
        return head


class _Header(Struct):
    archive: int
    start: _End
    end: _End
    checkpoint: str | None = None


class Segment(Struct, frozen=True):
    """One file of the archive."""

    path: Path
    start: Head
    end: Head
    checkpoint: str | None
    """The newest signed checkpoint when the segment was sealed."""

    def entries(self) -> Iterator[SealedEntry]:
        """The entries, as the file has them; they are for verifying.

        Raises:
            ArchiveError: the file is damaged.
        """
        with _reading(self.path) as lines:
            next(lines)
            yield from from_jsonl(lines)


def write(folder: Path, start: Head, rows: Sequence[SealedEntry], end: Head, checkpoint: str | None = None) -> Segment:
    """Seal entries into a file, durably, and read it back before it is called written.

    Doing it again after a crash is harmless: the file appears whole or not at all, and its name and bytes depend on
    the entries alone.

    Raises:
        ArchiveError: the entries do not lead from ``start`` to ``end``, or the file could not be written.
    """
    if not rows:
        raise ArchiveError("a segment needs entries")
    path = folder / f"audit-{rows[0].seq:012d}-{rows[-1].seq:012d}.jsonl.gz"
    segment = Segment(path, start, end, checkpoint)
    _check(segment, rows)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            _write(segment, rows)
    except OSError as error:
        raise ArchiveError(f"the archive file {path.name} could not be written: {error.strerror}") from error
    written = load(path)
    _check(written, written.entries())
    if (written.start, written.end) != (start, end):
        raise ArchiveError(f"the archive file {path.name} is there already, with other entries")
    return written


def load(path: Path) -> Segment:
    """What a file's header says of it; nothing is verified yet.

    Raises:
        ArchiveError: not a segment.
    """
    with _reading(path) as lines:
        try:
            header = msgspec.json.decode(next(lines, b""), type=_Header)
            start, end = header.start.head(), header.end.head()
        except ValueError as error:
            raise ArchiveError(f"the archive file {path.name} has no header: {error}") from error
    if header.archive != FORM:
        raise ArchiveError(f"the archive file {path.name} has form {header.archive}, which is not known here")
    return Segment(path, start, end, header.checkpoint)


def segments(folder: Path) -> list[Segment]:
    """All segments in a folder, oldest first."""
    return sorted((load(path) for path in folder.glob("audit-*.jsonl.gz")), key=lambda segment: segment.start.seq)


def of_time(folder: Path, at: datetime) -> str | None:
    """The name of the file whose entries begin before an instant and reach up to it; None if no file does.

    Asks few files, and only for their first entry: an archive may have thousands.
    """
    files = sorted(folder.glob("audit-*.jsonl.gz"))
    place = bisect_right(files, at, key=_first_time)
    if not place or (place == len(files) and _last_time(files[-1]) < at):
        return None
    return files[place - 1].name


def of_run(folder: Path, run: str, since: datetime, until: datetime) -> Iterator[SealedEntry]:
    """A run's entries that have moved, in order; looks only into the files of that time.

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


def _last_time(path: Path) -> datetime:
    return max(row.time for row in load(path).entries())


def whole(archived: Sequence[Segment], live: Iterable[SealedEntry]) -> tuple[Head, Iterator[SealedEntry]]:
    """Where an archive and the live log begin, and all their entries, to be verified as one.

    Entries that are in the archive and still in the database (a crash came between sealing and deleting) count once;
    both copies have to be the same, or the second is kept and will be found.
    """
    start = archived[0].start if archived else GENESIS
    end = archived[-1].end if archived else GENESIS
    return start, chain(chain.from_iterable(segment.entries() for segment in archived), _after(live, end))


def _after(live: Iterable[SealedEntry], end: Head) -> Iterator[SealedEntry]:
    for row in live:
        if row.seq > end.seq or (row.seq == end.seq and row.hash != end.hash):
            yield row


def _check(segment: Segment, rows: Iterable[SealedEntry]) -> None:
    result = verify(rows, start=segment.start, head=segment.end, strict=True)
    if not result.ok:
        raise ArchiveError(f"the segment {segment.path.name} does not verify: {result.findings[0].message}")


def _write(segment: Segment, rows: Iterable[SealedEntry]) -> None:
    path = segment.path
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    header = _Header(FORM, _End.of(segment.start), _End.of(segment.end), segment.checkpoint)
    try:
        with draft.open("xb") as file:
            # no name and no time inside: the same entries give the same bytes
            with gzip.GzipFile("", "wb", fileobj=file, mtime=0) as packed:
                packed.write(msgspec.json.encode(header) + b"\n")
                packed.writelines(map(to_jsonl, rows))
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    sync_folder(path.parent)


class _reading:
    """Lines of a packed file; damage of any kind is one error that names the file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: gzip.GzipFile | None = None

    def __enter__(self) -> Iterator[bytes]:
        try:
            self._file = gzip.open(self._path, "rb")
        except OSError as error:
            raise ArchiveError(f"the archive file {self._path.name} cannot be read: {error.strerror}") from error
        return self._lines(self._file)

    def _lines(self, file: gzip.GzipFile) -> Iterator[bytes]:
        try:
            yield from file
        except (OSError, EOFError, zlib.error) as error:
            raise ArchiveError(f"the archive file {self._path.name} is damaged: {error}") from error

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()
