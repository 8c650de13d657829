"""Numbering and chaining: drafts in, sealed entries and a new head out. Pure; the caller holds the lock.

An entry's hash is ``SHA-256(0x00 || canonical bytes)``, and the canonical bytes contain the hash of the entry before.
The zero byte makes it at the same time the entry's leaf hash in the Merkle tree of RFC 6962, so one hashing of the
content serves the chain, the tree, and any standard tool that is given the entries and a checkpoint.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from msgspec import Struct

from remediator.audit.canonical import encode, plain
from remediator.audit.entry import VERSION, Draft, Entry, SealedEntry
from remediator.audit.merkle import Range, leaf_hash
from remediator.audit.redact import SHAPES_ONLY, Redactor
from remediator.clock import rfc3339

ENTRY_LIMIT = 65536
"""Largest entry, in bytes of its canonical form; data that would make it larger is replaced by its digest."""


class Head(Struct, frozen=True):
    """Where the log ends: all that the next append needs to know of it."""

    seq: int
    """Number of the last entry; 0 for none."""
    hash: bytes
    """Hash of the last entry; zeros for none."""
    tree: bytes
    """State of the Merkle tree over all entries (:meth:`remediator.audit.merkle.Range.dump`)."""

    def root(self) -> bytes:
        """Root of the Merkle tree over all entries so far."""
        return Range.load(self.seq, self.tree).root()


GENESIS = Head(0, bytes(32), b"")


def seal(
    head: Head, drafts: Sequence[Draft], time: datetime, redactor: Redactor = SHAPES_ONLY
) -> tuple[list[SealedEntry], Head]:
    """Number, redact, encode, chain.

    Args:
        head: the log's end, locked by the caller until what this returns is committed.
        drafts: in the order in which they shall stand.
        time: the store's time, the same for all.
        redactor: knows the installation's secrets.

    Raises:
        NotRecordable: a draft holds a value of a type that the log does not know.
        ValueError: the head is not one.
    """
    tree = Range.load(head.seq, head.tree)
    written, seq, last = rfc3339(time), head.seq, head.hash
    sealed = []
    for draft in drafts:
        seq += 1
        canonical = _write(draft, seq, last.hex(), written, redactor)
        last = leaf_hash(canonical)
        tree.append(last)
        sealed.append(SealedEntry(seq, time, draft.kind.value, draft.run, draft.episode, canonical, last))
    return sealed, Head(seq, last, tree.dump())


def _write(draft: Draft, seq: int, prev: str, written: str, redactor: Redactor) -> bytes:
    data = plain(draft.data, redactor)
    canonical = encode(_entry(draft, data, seq, prev, written, redactor))
    if len(canonical) > ENTRY_LIMIT:
        digest = hashlib.sha256(canonical).hexdigest()
        remark = {"cut": {"bytes": len(canonical), "keys": sorted(data)[:20], "sha256": digest}}
        canonical = encode(_entry(draft, remark, seq, prev, written, redactor))
    return canonical


def _entry(draft: Draft, data: dict[str, Any], seq: int, prev: str, written: str, redactor: Redactor) -> Entry:
    def text(value: str | None) -> str | None:
        return value if value is None else redactor.text(value)

    return Entry(
        actor=redactor.text(draft.actor),
        data=data,
        episode=draft.episode,
        kind=draft.kind.value,
        plan_hash=draft.plan_hash,
        playbook=text(draft.playbook),
        playbook_hash=draft.playbook_hash,
        prev=prev,
        reason=text(draft.reason),
        run=draft.run,
        seq=seq,
        written=written,
        v=VERSION,
    )
