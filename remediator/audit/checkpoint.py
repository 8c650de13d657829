"""Checkpoints (C2SP tlog-checkpoint): a signed statement of the log's size and Merkle root.

Extension lines are read and kept, but none are written: the specification advises against them, since witnesses do
not audit them, and all that could stand there is already under the root. (The chain's head hash is the hash of the
last leaf; the time is in the entry ``checkpoint.signed`` that follows.)
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from remediator.audit import note as notes
from remediator.audit.chain import Head
from remediator.audit.merkle import WIDTH
from remediator.audit.note import BadNote, Signer, Verifier

_SIZE = re.compile(r"0|[1-9][0-9]{0,18}")
_JSON = json.JSONDecoder()
_BLOCK = re.compile(r"\n{2,}")


@dataclass(frozen=True)
class Checkpoint:
    """That the log ``origin`` had ``size`` entries whose Merkle root was ``root``."""

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    def text(self) -> str:
        """As the text of a note."""
        lines = (self.origin, str(self.size), base64.b64encode(self.root).decode(), *self.extensions)
        if any(not line or "\n" in line for line in lines):
            raise BadNote("no line of a checkpoint may be empty or contain a newline")
        return "\n".join(lines) + "\n"

    @classmethod
    def parse(cls, text: str) -> Checkpoint:
        """The checkpoint that a note's text is.

        Raises:
            BadNote: it is not one.
        """
        lines = text.split("\n")
        if len(lines) < 4 or lines[-1] or not all(lines[:-1]) or not _SIZE.fullmatch(lines[1]):
            raise BadNote("this note is not a checkpoint: an origin, a size, and a root hash")
        root = notes.unbase64(lines[2])
        if len(root) != WIDTH:
            raise BadNote("this checkpoint's root is not a SHA-256 hash in base64")
        return cls(lines[0], int(lines[1]), root, tuple(lines[3:-1]))


def sign(origin: str, head: Head, signers: Sequence[Signer]) -> str:
    """A signed checkpoint of the log as it ends at ``head``; keys should have the origin as their name."""
    return notes.sign(Checkpoint(notes.check_name(origin), head.seq, head.root()).text(), signers)


def verify(note: str, verifiers: Sequence[Verifier]) -> Checkpoint:
    """The checkpoint in a note, after its signature was found good.

    Raises:
        BadNote, BadSignature, UnknownKey: see :func:`remediator.audit.note.verify`.
    """
    text, _ = notes.verify(note, verifiers)
    return Checkpoint.parse(text)


def find(text: str) -> Iterator[str]:
    """Every signed note in a text: notes one after the other, or lines of JSON (as syslog and chats keep them) with
    a ``checkpoint`` each. A record that was torn by a crash is passed over by the next one's beginning.
    """
    body = ""
    for block in _BLOCK.split(text.replace("\r\n", "\n")):
        if block.startswith("— ") and body:
            yield f"{body}\n\n{block.rstrip()}\n"
            body = ""
        elif block.strip():
            body = block.strip("\n")
            yield from _in_json(block)


def _in_json(block: str) -> Iterator[str]:
    for line in block.split("\n"):
        at = line.find('{"checkpoint":')
        if at >= 0:
            try:
                found, _ = _JSON.raw_decode(line, at)  # whatever a chat or a log server puts behind it
            except ValueError:
                continue
            if isinstance(found["checkpoint"], str):
                yield found["checkpoint"]
