"""Verification of a log that grows while it is verified."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from itertools import islice

import pytest

from remediator.audit import GENESIS, Head, Problem, SealedEntry, seal
from remediator.audit.reader import verify_live
from remediator.audit.verification import Anchors
from tests.support.sample_logs import KEYS, START, draft, make, note

pytestmark = pytest.mark.promise(9)


class Growing:
    """A log in memory that grows by one entry at every call."""

    def __init__(self, rows: list[SealedEntry], head: Head, *, grow: bool = True) -> None:
        self.rows, self._head, self._grow = rows, head, grow

    def _write(self) -> None:
        if self._grow:
            more, self._head = seal(self._head, [draft(self._head.seq)], START)
            self.rows += more

    def entries(
        self,
        after_seq: int = 0,
        limit: int | None = None,
        run: str | None = None,
        kind: str | None = None,
        since: datetime | None = None,
    ) -> Iterator[SealedEntry]:
        """Return entries as `AuditReader.entries` does."""
        self._write()
        return islice((row for row in self.rows if row.seq > after_seq), limit)

    def head(self) -> Head:
        """Return the head as `AuditReader.head` does."""
        before = self._head
        self._write()
        return before


def test_growing_log_verifies() -> None:
    """Entries that arrive during the verification are neither missed nor reported."""
    rows, head = make(30)
    result = verify_live(Growing(rows, head), Anchors([note(head)], KEYS))

    assert result.ok and result.last == 30


def test_entry_beyond_the_head_is_reported() -> None:
    """A row that the head never includes is a finding."""
    rows, head = make(6)
    [more], _ = seal(head, [draft(50)], START)
    result = verify_live(Growing([*rows, more], head, grow=False))

    assert (result.findings[0].problem, result.findings[0].seq) == (Problem.REWRITTEN, 7)


def test_an_archive_and_the_live_log_are_one() -> None:
    """The reader yields the archived entries first, and then the following live entries."""
    rows, head = make(12)
    live = Growing(rows[6:], head, grow=False)

    assert verify_live(live, Anchors([note(head)], KEYS), archived=rows[:6], archived_to=6).ok
    assert verify_live(Growing([], GENESIS, grow=False)).ok
    assert not verify_live(live, archived=rows[:5], archived_to=5).ok
