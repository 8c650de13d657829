"""Numbering and chaining: drafts in, sealed entries and a new head out. Pure; the caller holds the lock.

An entry's hash is ``SHA-256(0x00 || canonical bytes)``, and the canonical bytes contain the hash of the entry before.
The zero byte makes it at the same time the entry's leaf hash in the Merkle tree of RFC 6962, so one hashing of the
content serves the chain, the tree, and any standard tool that is given the entries and a checkpoint.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime
from functools import partial
from typing import Any

from msgspec import Struct

from remediator.audit.canonical import Plain, encode
from remediator.audit.entry import VERSION, Draft, Entry, SealedEntry
from remediator.audit.merkle import Range, leaf_hash
from remediator.audit.redact import SHAPES_ONLY, TEXT_LIMIT, Redactor
from remediator.core.clock import rfc3339

ENTRY_LIMIT = 65536
"""Largest entry, in bytes of its canonical form. Longer data is shortened: first its strings, then all of it."""
SHORT = 200
"""To how many characters strings are cut in an entry that is too large."""


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
    tree, pen = Range.load(head.seq, head.tree), _Pen(rfc3339(time), redactor)
    seq, last = head.seq, head.hash
    sealed, leaves = [], []
    for draft in drafts:
        seq += 1
        canonical = pen.write(draft, seq, last.hex())
        last = leaf_hash(canonical)
        leaves.append(last)
        sealed.append(SealedEntry(seq, time, draft.kind.value, draft.run, draft.episode, canonical, last))
    tree.extend(leaves)
    return sealed, Head(seq, last, tree.dump())


class _Pen:
    """Writes drafts: quickly, and thoroughly where the quick way found something to look at."""

    def __init__(self, written: str, redactor: Redactor) -> None:
        self._written = written
        self._redactor = redactor
        self._quick = Plain(redactor, self._if_long)
        self._thorough = Plain(redactor, redactor.text, thorough=True)
        self._short = Plain(redactor, partial(redactor.text, limit=SHORT), thorough=True)

    def _if_long(self, text: str) -> str:
        # a secret must be found before a cut can halve it
        return text if len(text) <= TEXT_LIMIT else self._redactor.text(text)

    def write(self, draft: Draft, seq: int, prev: str) -> bytes:
        """The canonical bytes."""
        try:
            canonical = self._encode(draft, seq, prev, self._quick)
            if not self._redactor.suspects(canonical) and len(canonical) <= ENTRY_LIMIT:
                return canonical
        except UnicodeEncodeError:  # a lone surrogate; the thorough way replaces it
            pass
        canonical = self._encode(draft, seq, prev, self._thorough)
        if len(canonical) <= ENTRY_LIMIT:
            return canonical
        shorter = self._encode(draft, seq, prev, self._short)
        return shorter if len(shorter) <= ENTRY_LIMIT else self._remark(draft, seq, prev, canonical)

    def _encode(self, draft: Draft, seq: int, prev: str, plain: Plain) -> bytes:
        return encode(self._entry(draft, seq, prev, plain, plain.mapping(draft.data)))

    def _remark(self, draft: Draft, seq: int, prev: str, whole: bytes) -> bytes:
        names = sorted(self._short.mapping(dict.fromkeys(draft.data)))[:20]
        cut = {"bytes": len(whole), "sha256": hashlib.sha256(whole).hexdigest(), "names": names}
        return encode(self._entry(draft, seq, prev, self._short, {"cut": cut}))

    def _entry(self, draft: Draft, seq: int, prev: str, plain: Plain, data: dict[str, Any]) -> Entry:
        return Entry(
            plain.value(draft.actor),
            data,
            draft.episode,
            draft.kind.value,
            draft.plan_hash,
            plain.value(draft.playbook),
            draft.playbook_hash,
            prev,
            plain.value(draft.reason),
            draft.run,
            seq,
            self._written,
            VERSION,
        )
