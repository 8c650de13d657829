"""Proofs that one entry is in the log (C2SP tlog-proof). A proof can be checked without the log.

The canonical bytes of the entry are the extra data of the format: a verifier needs them to compute the hash.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from remediator.audit import checkpoint, merkle
from remediator.audit.checkpoint import Checkpoint
from remediator.audit.signed_note import BadNote, Verifier, decode_base64, split
from remediator.errors import AuditError

FIRST_LINE = "c2sp.org/tlog-proof@v1"

_INDEX = re.compile(r"index (0|[1-9][0-9]{0,18})")


class BadProof(AuditError):
    """A file is not a proof, or the proof is wrong."""


@dataclass(frozen=True)
class Proof:
    """States that ``canonical`` is entry ``index + 1`` of the log of the checkpoint ``note``."""

    canonical: bytes
    index: int
    path: tuple[bytes, ...]
    note: str

    def text(self) -> str:
        """Return the content of the proof file."""
        hashes = [base64.b64encode(node).decode() for node in self.path]
        extra = base64.b64encode(self.canonical).decode()
        return "\n".join([FIRST_LINE, f"extra {extra}", f"index {self.index}", *hashes, "", self.note])

    @classmethod
    def parse(cls, text: str) -> Proof:
        """Parse the content of a proof file.

        Raises:
            BadProof: the text is not a proof, or does not contain the entry.
        """
        head, separator, note = text.partition("\n\n")
        lines = head.split("\n")
        index = _INDEX.fullmatch(lines[2]) if len(lines) > 2 else None
        if not separator or lines[0] != FIRST_LINE or not lines[1].startswith("extra ") or index is None:
            raise BadProof(f"not a proof file: expected the format {FIRST_LINE} with the entry as extra data")
        canonical, *path = (decode_base64(line) for line in (lines[1][6:], *lines[3:]))
        if not canonical or not all(path):
            raise BadProof("the proof is damaged: a line is not valid base64")
        return cls(canonical, int(index[1]), tuple(path), note)

    def verify(self, keys: Sequence[Verifier]) -> Checkpoint:
        """Verify the proof and return the checkpoint that covers the entry.

        Raises:
            BadProof: the path does not lead from the entry to the root of the checkpoint.
            BadNote, BadSignature, UnknownKey: the checkpoint cannot be trusted.
        """
        point = checkpoint.verify(self.note, keys)
        leaf = merkle.leaf_hash(self.canonical)
        if not merkle.verify_inclusion(leaf, self.index, point.size, self.path, point.root):
            raise BadProof(f"the proof does not lead from entry {self.index + 1} to the signed root")
        return point


def prove(canonical: bytes, seq: int, leaves: Iterable[bytes], note: str) -> Proof:
    """Return a proof for one entry.

    Args:
        canonical: the canonical bytes of the entry.
        seq: the number of the entry.
        leaves: the hashes of all entries, from entry 1.
        note: a signed checkpoint that covers the entry.

    Raises:
        BadProof: the checkpoint does not cover the entry, or was signed for another log.
    """
    try:
        point = Checkpoint.parse(split(note)[0])
    except BadNote as error:
        raise BadProof(f"the checkpoint is invalid: {error}") from error
    try:
        path = merkle.inclusion_proof(leaves, seq - 1, point.size)
    except ValueError as error:
        raise BadProof(f"the checkpoint of {point.size} entries does not fit: {error}") from error
    if not merkle.verify_inclusion(merkle.leaf_hash(canonical), seq - 1, point.size, path, point.root):
        raise BadProof(f"the checkpoint of {point.size} entries was signed for another log")
    return Proof(canonical, seq - 1, tuple(path), note)
