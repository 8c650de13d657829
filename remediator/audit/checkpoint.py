"""Checkpoints (C2SP tlog-checkpoint): a signed statement of the size and the Merkle root of the log.

Extension lines are read and kept, but never written: the specification advises against them, because witnesses do not
audit them. The root already covers all they could contain. The head hash of the chain is the hash of the last leaf. The
time is in the next entry, ``checkpoint.signed``.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from remediator.audit import signed_note as notes
from remediator.audit.chain import Head
from remediator.audit.merkle import HASH_BYTES
from remediator.audit.signed_note import BadNote, Signer, Verifier
from remediator.core import untrusted_json

_JSON = json.JSONDecoder()
_SIZE = re.compile(r"0|[1-9][0-9]{0,18}")
_ROOT = re.compile(r"[A-Za-z0-9+/]{43}=")
_SIGNED = re.compile(r"— \S+ [A-Za-z0-9+/]{60,}={0,2}")
_SHORTEST_SIGNATURE = 4 + 64
"""Bytes of an Ed25519 signature with its key ID. All other types are longer."""
_DECORATION = " \t\u00a0>`"
"""Characters that chats and mail programs add around a line: indentation, quote marks, code fences."""


@dataclass(frozen=True)
class Checkpoint:
    """States that the log ``origin`` had ``size`` entries with the Merkle root ``root``."""

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    def text(self) -> str:
        """Return the text of the note, without signatures."""
        lines = (self.origin, str(self.size), base64.b64encode(self.root).decode(), *self.extensions)
        if any(not line or "\n" in line for line in lines):
            raise BadNote("a line of a checkpoint must not be empty or contain a newline")
        return "\n".join(lines) + "\n"

    @classmethod
    def parse(cls, text: str) -> Checkpoint:
        """Parse the text of a note.

        Raises:
            BadNote: the text is not a checkpoint.
        """
        lines = text.split("\n")
        if len(lines) < 4 or lines[-1] or not all(lines[:-1]) or not _SIZE.fullmatch(lines[1]):
            raise BadNote("the note is not a checkpoint: expected an origin, a size and a root hash")
        root = notes.decode_base64(lines[2])
        if len(root) != HASH_BYTES:
            raise BadNote("the root of the checkpoint is not a SHA-256 hash in base64")
        return cls(lines[0], int(lines[1]), root, tuple(lines[3:-1]))


def sign(origin: str, head: Head, signers: Sequence[Signer]) -> str:
    """Return a signed checkpoint of the log that ends at ``head``. The keys should have the origin as their name."""
    return notes.sign(Checkpoint(notes.check_name(origin), head.seq, head.root()).text(), signers)


def verify(note: str, verifiers: Sequence[Verifier]) -> Checkpoint:
    """Verify the signatures of a note and return its checkpoint.

    Raises:
        BadNote, BadSignature, UnknownKey: see :func:`remediator.audit.signed_note.verify`.
    """
    text, _ = notes.verify(note, verifiers)
    return Checkpoint.parse(text)


def find_notes(text: str) -> Iterator[str]:
    """Yield every signed note in a text, in order. No signature is verified here.

    The text may be notes one after the other, or JSON lines as syslog stores them. It may also be text copied or
    exported from a chat, with other text around the notes. A record that a crash cut off is skipped, also a record
    without its complete last signature. It proves nothing, and does not indicate a forgery.
    """
    if text.lstrip().startswith(("{", "[")):
        try:
            exported = untrusted_json.decode(text)
        except ValueError:
            exported = None  # search other formats, for example JSON lines, line by line
        if exported is not None:
            yield from _find_in_json(exported)
            return
    lines = [line.strip(_DECORATION) for line in text.replace("\r\n", "\n").split("\n")]
    at = 0
    while at < len(lines):
        if lines[at].startswith("— "):
            end = next((place for place in range(at, len(lines)) if not lines[place].startswith("— ")), len(lines))
            body = _lines_above(lines, at)
            start = _checkpoint_start(body)
            signatures = lines[at : end if _is_complete(lines[end - 1]) else end - 1]
            if body and signatures and (start is not None or all(map(_SIGNED.fullmatch, signatures))):
                yield "\n".join((*body[start or 0 :], "", *signatures, ""))
            at = end
        else:
            yield from _find_in_line(lines[at])
            at += 1


def _is_complete(signature: str) -> bool:
    return len(notes.decode_base64(signature.rpartition(" ")[2])) >= _SHORTEST_SIGNATURE


def _lines_above(lines: Sequence[str], end: int) -> Sequence[str]:
    """Return the lines directly above a signature, up to an empty line."""
    while end and not lines[end - 1]:
        end -= 1
    start = end
    while start and lines[start - 1] and not lines[start - 1].startswith("— "):
        start -= 1
    return lines[start:end]


def _checkpoint_start(body: Sequence[str]) -> int | None:
    """Return the index of the first line of a checkpoint, after text that a chat put above it."""
    places = range(len(body) - 3, -1, -1)
    return next((at for at in places if _SIZE.fullmatch(body[at + 1]) and _ROOT.fullmatch(body[at + 2])), None)


def _find_in_line(line: str) -> Iterator[str]:
    start = line.find('{"')
    if start < 0:
        return
    try:
        found, _ = _JSON.raw_decode(line, start)  # ignore text that a chat or a log server appends
    except (ValueError, RecursionError):
        return
    yield from _find_in_json(found)


def _find_in_json(value: Any) -> Iterator[str]:
    """Yield the notes in the strings of a JSON value. A list of strings may hold the lines of one note."""
    if isinstance(value, str):
        yield from find_notes(value) if "— " in value else ()
    elif isinstance(value, list) and value and all(isinstance(item, str) for item in value):
        yield from find_notes("\n".join(value))
    elif isinstance(value, list | dict):
        for item in value if isinstance(value, list) else value.values():
            yield from _find_in_json(item)
