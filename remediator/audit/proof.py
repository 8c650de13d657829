"""Proofs that one entry is in the log (C2SP tlog-proof): a file that convinces without the log.

The entry's bytes go along as the format's extra data, which is there for what a reader needs to compute the hash.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from remediator.audit import checkpoint, merkle
from remediator.audit.checkpoint import Checkpoint
from remediator.audit.signed_note import BadNote, Verifier, split, unbase64
from remediator.errors import AuditError

FIRST_LINE = "c2sp.org/tlog-proof@v1"
SUFFIX = ".tlog-proof"

_INDEX = re.compile(r"index (0|[1-9][0-9]{0,18})")


class BadProof(AuditError):
    """A proof that is not one, or does not prove it."""


@dataclass(frozen=True)
class Proof:
    """That ``canonical`` is entry ``index + 1`` of the log that ``note`` is a checkpoint of."""

    canonical: bytes
    index: int
    path: tuple[bytes, ...]
    note: str

    def text(self) -> str:
        """As a file's content."""
        hashes = [base64.b64encode(node).decode() for node in self.path]
        extra = base64.b64encode(self.canonical).decode()
        return "\n".join([FIRST_LINE, f"extra {extra}", f"index {self.index}", *hashes, "", self.note])

    @classmethod
    def parse(cls, text: str) -> Proof:
        """The proof in a file.

        Raises:
            BadProof: it is not one, or not one of ours (it lacks the entry).
        """
        head, separator, note = text.partition("\n\n")
        lines = head.split("\n")
        index = _INDEX.fullmatch(lines[2]) if len(lines) > 2 else None
        if not separator or lines[0] != FIRST_LINE or not lines[1].startswith("extra ") or index is None:
            raise BadProof(f"this is not a {FIRST_LINE} with its entry")
        canonical, *path = (unbase64(line) for line in (lines[1][6:], *lines[3:]))
        if not canonical or not all(path):
            raise BadProof("this proof is damaged: a line of it is not base64")
        return cls(canonical, int(index[1]), tuple(path), note)

    def verify(self, keys: Sequence[Verifier]) -> Checkpoint:
        """The checkpoint under which the entry stands.

        Raises:
            BadProof: the path does not lead from the entry to the checkpoint's root.
            BadNote, BadSignature, UnknownKey: the checkpoint is not to be believed.
        """
        point = checkpoint.verify(self.note, keys)
        leaf = merkle.leaf_hash(self.canonical)
        if not merkle.verify_inclusion(leaf, self.index, point.size, self.path, point.root):
            raise BadProof(f"the proof does not lead from entry {self.index + 1} to the root that was signed")
        return point


def prove(canonical: bytes, seq: int, leaves: Iterable[bytes], note: str) -> Proof:
    """A proof for the entry numbered ``seq``.

    Args:
        canonical: its bytes.
        seq: its number.
        leaves: the hashes of all entries, from the first one on.
        note: a checkpoint, signed, that covers it.

    Raises:
        BadProof: it does not cover the entry, or the log is not the one that was signed.
    """
    point = _checkpoint(note)
    try:
        path = merkle.inclusion_proof(leaves, seq - 1, point.size)
    except ValueError as error:
        raise BadProof(f"entry {seq} cannot be proved by a checkpoint of {point.size} entries: {error}") from error
    if not merkle.verify_inclusion(merkle.leaf_hash(canonical), seq - 1, point.size, path, point.root):
        raise BadProof(f"the log is not the one that the checkpoint of {point.size} entries was signed for")
    return Proof(canonical, seq - 1, tuple(path), note)


def _checkpoint(note: str) -> Checkpoint:
    try:
        return Checkpoint.parse(split(note)[0])
    except BadNote as error:
        raise BadProof(f"there is no checkpoint to prove by: {error}") from error
