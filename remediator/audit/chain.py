"""The hash chain: turns drafts into numbered, chained entries and a new head. Pure; the caller holds the lock.

The hash of an entry is ``SHA-256(0x00 || canonical bytes)``. The canonical bytes contain the hash of the previous
entry. Because of the zero byte, the hash is also the leaf hash of the entry in the Merkle tree of RFC 6962. One hash
therefore serves the chain, the tree, and any standard tool that gets the entries and a checkpoint.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime
from functools import partial
from typing import Any

from msgspec import Struct

from remediator.audit.canonical import Normalizer, encode
from remediator.audit.entry import VERSION, Draft, Entry, SealedEntry
from remediator.audit.merkle import CompactRange, leaf_hash
from remediator.audit.redact import PATTERNS_ONLY, TEXT_LIMIT, Redactor
from remediator.core.clock import rfc3339

ENTRY_LIMIT = 65536
"""Maximum size of an entry in bytes of its canonical form. Longer entries get shorter strings; if that is not enough,
their data is replaced by its digest."""
SHORT_TEXT_LIMIT = 200
"""Maximum length of strings in an entry that is too large, in characters."""


class Head(Struct, frozen=True):
    """The end of the log: everything that the next append needs."""

    seq: int
    """Number of the last entry; 0 if the log is empty."""
    hash: bytes
    """Hash of the last entry; zero bytes if the log is empty."""
    tree: bytes
    """State of the Merkle tree over all entries (:meth:`remediator.audit.merkle.CompactRange.dump`)."""

    def root(self) -> bytes:
        """Return the root of the Merkle tree over all entries."""
        return CompactRange.load(self.seq, self.tree).root()


GENESIS = Head(0, bytes(32), b"")


def seal(
    head: Head, drafts: Sequence[Draft], time: datetime, redactor: Redactor = PATTERNS_ONLY
) -> tuple[list[SealedEntry], Head]:
    """Number, redact, encode and chain drafts. Return the entries and the new head.

    Args:
        head: the end of the log. The caller locks it until the returned entries are committed.
        drafts: in log order.
        time: the time of the store, the same for all entries.
        redactor: knows the secrets of this installation.

    Raises:
        NotRecordable: a draft holds a value of a type that the log cannot store.
        ValueError: the head is invalid.
    """
    tree, writer = CompactRange.load(head.seq, head.tree), _EntryWriter(rfc3339(time), redactor)
    seq, last = head.seq, head.hash
    sealed, leaves = [], []
    for draft in drafts:
        seq += 1
        canonical = writer.write(draft, seq, last.hex())
        last = leaf_hash(canonical)
        leaves.append(last)
        sealed.append(SealedEntry(seq, time, draft.kind.value, draft.run, draft.episode, canonical, last))
    tree.extend(leaves)
    return sealed, Head(seq, last, tree.dump())


class _EntryWriter:
    """Encodes drafts. A fast pass comes first; the thorough pass runs only if the fast one finds a possible secret."""

    def __init__(self, written: str, redactor: Redactor) -> None:
        self._written = written
        self._redactor = redactor
        # redact long text before cutting it: the redactor cannot find one half of a secret
        self._fast = Normalizer(redactor, lambda text: text if len(text) <= TEXT_LIMIT else redactor.text(text))
        self._thorough = Normalizer(redactor, redactor.text, thorough=True)
        self._short = Normalizer(redactor, partial(redactor.text, limit=SHORT_TEXT_LIMIT), thorough=True)

    def write(self, draft: Draft, seq: int, prev: str) -> bytes:
        """Return the canonical bytes of a draft."""
        try:
            canonical = self._encode(draft, seq, prev, self._fast)
            if not self._redactor.may_contain_secret(canonical) and len(canonical) <= ENTRY_LIMIT:
                return canonical
        except UnicodeEncodeError:  # the text has a lone surrogate; the thorough pass replaces it
            pass
        canonical = self._encode(draft, seq, prev, self._thorough)
        if len(canonical) <= ENTRY_LIMIT:
            return canonical
        shorter = self._encode(draft, seq, prev, self._short)
        if len(shorter) <= ENTRY_LIMIT:
            return shorter
        names = sorted(self._short.mapping(dict.fromkeys(draft.data)))[:20]
        cut = {"bytes": len(canonical), "sha256": hashlib.sha256(canonical).hexdigest(), "names": names}
        return self._encode(draft, seq, prev, self._short, {"cut": cut})

    def _encode(
        self, draft: Draft, seq: int, prev: str, normalizer: Normalizer, data: dict[str, Any] | None = None
    ) -> bytes:
        return encode(
            Entry(
                normalizer.value(draft.actor),
                normalizer.mapping(draft.data) if data is None else data,
                draft.episode,
                draft.kind.value,
                draft.plan_hash,
                normalizer.value(draft.playbook),
                draft.playbook_hash,
                prev,
                normalizer.value(draft.reason),
                draft.run,
                seq,
                self._written,
                VERSION,
            )
        )
