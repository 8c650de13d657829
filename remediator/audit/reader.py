"""What the tools need from whatever keeps the log."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import chain, takewhile
from typing import Protocol

from msgspec import structs

from remediator.audit.chain import GENESIS, Head
from remediator.audit.checkpoint_trust import Finding, Problem
from remediator.audit.entry import SealedEntry
from remediator.audit.signed_note import Verifier
from remediator.audit.verification import Verification, verify


class AuditReader(Protocol):
    """A log that can be read. A store implements it, and so does an export."""

    def entries(
        self,
        after_seq: int = 0,
        limit: int | None = None,
        run: str | None = None,
        kind: str | None = None,
        since: datetime | None = None,
    ) -> Iterable[SealedEntry]:
        """Entries in the order of their numbers, of those that are numbered above ``after_seq`` and match."""
        ...

    def head(self) -> Head:
        """Where the log says that it ends."""
        ...


def verify_live(
    reader: AuditReader,
    checkpoints: Iterable[str] = (),
    keys: Sequence[Verifier] = (),
    *,
    start: Head = GENESIS,
    archived: Iterable[SealedEntry] = (),
    archived_to: int = 0,
    now: datetime | None = None,
    origin: str | None = None,
    strict: bool = False,
) -> Verification:
    """Verify a log that may grow meanwhile: up to where its head is now, and nothing may stand beyond its head.

    Args:
        reader: the live log.
        checkpoints, keys, start, now, origin, strict: see :func:`remediator.audit.verification.verify`.
        archived: entries that come before the live ones.
        archived_to: number of the last of these; live entries up to it are not read again.
    """
    head = reader.head()
    live = takewhile(lambda row: row.seq <= head.seq, reader.entries(after_seq=max(archived_to, start.seq)))
    rows = chain(archived, live)
    result = verify(rows, checkpoints, keys, start=start, head=head, now=now, origin=origin, strict=strict)
    beyond = next(iter(reader.entries(after_seq=head.seq, limit=1)), None)
    if result.ok and beyond is not None and reader.head().seq < beyond.seq:
        message = f"entry {beyond.seq} stands beyond the log's head (entry {head.seq}): added past the sequencer."
        return structs.replace(result, findings=(Finding(Problem.REWRITTEN, beyond.seq, message),))
    return result
