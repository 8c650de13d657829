"""Compare the checkpoints that the entries of a log record with the entries before them.

They were written with the log. So they show a part that was replaced without the signing key, even if the hashes after
it were computed again. No checkpoint kept elsewhere is needed for this.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

from msgspec import Raw

from remediator.audit import checkpoint
from remediator.audit.checkpoint_trust import Finding, Problem
from remediator.audit.merkle import CompactRange
from remediator.audit.signed_note import BadNote, BadSignature, UnknownKey, Verifier
from remediator.core import untrusted_json

_BLOCKS_KEPT = 16
"""Blocks whose roots can be computed again. A checkpoint is recorded a few entries after the entries that it covers."""


class RecordedCheckpoints:
    """The comparison, block by block.

    Args:
        keys: the trusted keys. Without any, signatures are not checked.
    """

    def __init__(self, keys: Sequence[Verifier]) -> None:
        self._keys = keys
        self._pending: list[tuple[int, Any]] = []
        self._blocks: deque[tuple[int, bytes, tuple[bytes, ...]]] = deque(maxlen=_BLOCKS_KEPT)
        self.signed = 0
        """Number of entries that the last signature inside the log covers."""
        self.too_old = 0
        """Number of the last entry whose checkpoint was too old to be compared; 0 if there is no such entry."""

    def add(self, seq: int, data: Any) -> None:
        """Note an entry that records a checkpoint; :meth:`compare` reads it."""
        self._pending.append((seq, data))

    def compare(self, start: int, tree: bytes, leaves: Sequence[bytes]) -> Finding | None:
        """Compare the checkpoints that were added since the last call.

        Args:
            start: number of entries before the newest block.
            tree: the tree over these entries.
            leaves: the hashes of the newest block.
        """
        self._blocks.append((start, tree, tuple(leaves)))
        pending, self._pending = self._pending, []
        return next((found for seq, data in pending if (found := self._compare(seq, data)) is not None), None)

    def _compare(self, seq: int, data: Any) -> Finding | None:
        about = untrusted_json.decode(data) if isinstance(data, Raw) else data
        size, root = about.get("size"), about.get("root")
        if not isinstance(size, int) or not isinstance(root, str) or not 0 < size < seq:
            return Finding(Problem.UNREADABLE, seq, f"entry {seq} records no valid checkpoint.")
        block = next((each for each in self._blocks if each[0] <= size <= each[0] + len(each[2])), None)
        if block is None:
            self.too_old = seq
        else:
            there = CompactRange.load(block[0], block[1])
            there.extend(block[2][: size - block[0]])
            if there.root().hex() != root:
                message = f"entry {seq} records another root of the first {size} entries than they have."
                return Finding(Problem.REWRITTEN, seq, message)
        return self._check_signature(seq, size, root, about.get("note")) if self._keys else None

    def _check_signature(self, seq: int, size: int, root: str, note: Any) -> Finding | None:
        if not isinstance(note, str):
            return Finding(Problem.FORGED, seq, f"entry {seq} records a checkpoint without its signature.")
        try:
            point = checkpoint.verify(note, self._keys)
        except UnknownKey as error:
            message = f"the checkpoint in entry {seq} is signed with another key: {error}. After a key change, also "
            return Finding(Problem.UNTRUSTED, seq, f"{message}give the old public key with --key.")
        except (BadSignature, BadNote) as error:
            return Finding(Problem.FORGED, seq, f"the checkpoint in entry {seq} is forged: {error}.")
        if (point.size, point.root.hex()) != (size, root):
            return Finding(Problem.FORGED, seq, f"entry {seq} records another checkpoint than was signed.")
        self.signed = size
        return None
