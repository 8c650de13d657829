"""The chain of entries: numbers, hashes and the head."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remediator.audit import GENESIS, Head, decode, seal
from remediator.audit.merkle import CompactRange
from tests.support.sample_logs import START, draft, make

pytestmark = pytest.mark.promise(9)


def test_every_entry_contains_the_hash_of_the_previous_entry() -> None:
    """Numbers have no gaps, and each entry contains the SHA-256 of the previous entry."""
    rows, head = make(20)
    entries = [decode(row.canonical) for row in rows]

    assert [entry.seq for entry in entries] == list(range(1, 21))
    assert [entry.prev for entry in entries] == ["0" * 64, *(row.hash.hex() for row in rows[:-1])]
    assert [row.hash for row in rows] == [hashlib.sha256(b"\0" + row.canonical).digest() for row in rows]
    assert (head.seq, head.hash) == (20, rows[-1].hash)


@given(st.lists(st.integers(0, 9), max_size=12))
def test_how_entries_are_grouped_does_not_matter(groups: list[int]) -> None:
    """The same drafts give the same log and head, however they are split into transactions."""
    drafts = [draft(number) for number in range(sum(groups))]
    rows, head, at = [], GENESIS, 0
    for size in groups:
        more, head = seal(head, drafts[at : at + size], START)
        rows += more
        at += size

    assert (rows, head) == seal(GENESIS, drafts, START)


def test_indexed_columns_equal_the_entry() -> None:
    """The indexed columns of a row have the values of its canonical bytes."""
    for row in make(40)[0]:
        entry = decode(row.canonical)
        assert (row.seq, row.time, row.kind, row.run, row.episode) == (
            entry.seq,
            entry.time,
            entry.kind,
            entry.run,
            entry.episode,
        )
        assert type(row.kind) is str


def test_head_is_small_and_contains_the_root() -> None:
    """The head, which an append needs, grows with the logarithm of the log."""
    rows, head = make(1000)
    tree = CompactRange()
    for row in rows:
        tree.append(row.hash)

    assert head.root() == tree.root()
    assert len(head.tree) == 32 * (1000).bit_count()


@pytest.mark.parametrize("head", [Head(1, bytes(32), b""), Head(0, bytes(32), bytes(32)), Head(-1, bytes(32), b"")])
def test_invalid_head_is_refused(head: Head) -> None:
    """With a damaged or foreign head, an append fails instead of starting another log."""
    with pytest.raises(ValueError, match="the state of a Merkle tree"):
        seal(head, [draft(1)], START)
