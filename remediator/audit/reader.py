"""The interface of a log that can be read, and the verification of a log that may grow."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from itertools import chain, takewhile
from typing import Protocol

from msgspec import structs

from remediator.audit.chain import GENESIS, Head
from remediator.audit.checkpoint_trust import Finding, Problem
from remediator.audit.entry import SealedEntry
from remediator.audit.verification import NO_ANCHORS, Anchors, Verification, verify


class AuditReader(Protocol):
    """A log that can be read. Stores and exports implement it."""

    def entries(
        self,
        after_seq: int = 0,
        limit: int | None = None,
        run: str | None = None,
        kind: str | None = None,
        since: datetime | None = None,
    ) -> Iterable[SealedEntry]:
        """Yield the matching entries with a number above ``after_seq``, in order."""
        ...

    def head(self) -> Head:
        """Return the stored end of the log."""
        ...


def verify_live(
    reader: AuditReader,
    anchors: Anchors = NO_ANCHORS,
    *,
    start: Head = GENESIS,
    archived: Iterable[SealedEntry] = (),
    archived_to: int = 0,
    counted: Callable[[Iterable[SealedEntry], int], Iterable[SealedEntry]] = lambda rows, total: rows,
    now: datetime | None = None,
    strict: bool = False,
) -> Verification:
    """Verify a log that may grow during the verification: up to its current head. No entry may exist beyond the head.

    Args:
        reader: the live log.
        anchors, start, now, strict: see :func:`remediator.audit.verification.verify`.
        archived: entries before the live ones.
        archived_to: number of the last archived entry; live entries up to it are skipped.
        counted: called with all entries and their number, to show the progress.
    """
    head = reader.head()
    live = takewhile(lambda row: row.seq <= head.seq, reader.entries(after_seq=max(archived_to, start.seq)))
    rows = counted(chain(archived, live), head.seq - start.seq)
    result = verify(rows, anchors, start=start, head=head, now=now, strict=strict)
    beyond = next(iter(reader.entries(after_seq=head.seq, limit=1)), None)
    if result.ok and beyond is not None and reader.head().seq < beyond.seq:
        message = (
            f"entry {beyond.seq} is after the head of the log (entry {head.seq}): it was added without the service."
        )
        return structs.replace(result, findings=(Finding(Problem.REWRITTEN, beyond.seq, message),))
    return result
