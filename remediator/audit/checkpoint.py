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
from typing import Any

from remediator.audit import signed_note as notes
from remediator.audit.chain import Head
from remediator.audit.merkle import WIDTH
from remediator.audit.signed_note import BadNote, Signer, Verifier

_JSON = json.JSONDecoder()
_SIZE = re.compile(r"0|[1-9][0-9]{0,18}")
_ROOT = re.compile(r"[A-Za-z0-9+/]{43}=")
_SIGNED = re.compile(r"— \S+ [A-Za-z0-9+/]{60,}={0,2}")
_AROUND = " \t\u00a0>`"
"""What people and chats put before and after a line: indentation, quoting, the fence of a code block."""


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
        BadNote, BadSignature, UnknownKey: see :func:`remediator.audit.signed_note.verify`.
    """
    text, _ = notes.verify(note, verifiers)
    return Checkpoint.parse(text)


def find(text: str) -> Iterator[str]:
    """Every signed note in a text, in order: notes one after the other; lines of JSON as syslog keeps them; what was
    copied or exported from a chat, with other text around. A record that a crash tore is passed over by the next one.

    Nothing is believed of them: what looks like a note is given out, for its signature to be verified.
    """
    exported = _json(text)
    if exported is not None:
        yield from _in_json(exported)
        return
    lines = [line.strip(_AROUND) for line in text.replace("\r\n", "\n").split("\n")]
    at = 0
    while at < len(lines):
        if lines[at].startswith("— "):
            end = next((place for place in range(at, len(lines)) if not lines[place].startswith("— ")), len(lines))
            body = _body(lines, at)
            if body and (_begin(body) is not None or all(map(_SIGNED.fullmatch, lines[at:end]))):
                yield "\n".join((*body[_begin(body) or 0 :], "", *lines[at:end], ""))
            at = end
        else:
            yield from _in_line(lines[at])
            at += 1


def _body(lines: Sequence[str], end: int) -> Sequence[str]:
    """The lines above a signature, up to an empty one."""
    while end and not lines[end - 1]:
        end -= 1
    start = end
    while start and lines[start - 1] and not lines[start - 1].startswith("— "):
        start -= 1
    return lines[start:end]


def _begin(body: Sequence[str]) -> int | None:
    """Where in these lines a checkpoint begins; what a chat writes above it is none of it."""
    places = range(len(body) - 3, -1, -1)
    return next((at for at in places if _SIZE.fullmatch(body[at + 1]) and _ROOT.fullmatch(body[at + 2])), None)


def _in_line(line: str) -> Iterator[str]:
    start = line.find('{"')
    if start < 0:
        return
    try:
        found, _ = _JSON.raw_decode(line, start)  # whatever a chat or a log server puts behind it
    except (ValueError, RecursionError):
        return
    yield from _in_json(found)


def _json(text: str) -> Any:
    """The JSON object or list that this is; None if it is something else."""
    if not text.lstrip().startswith(("{", "[")):
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _in_json(value: Any) -> Iterator[str]:
    """Notes in the texts of a JSON value; a list of texts may be the lines of one."""
    if isinstance(value, str):
        yield from find(value) if "— " in value else ()
    elif isinstance(value, list) and value and all(isinstance(item, str) for item in value):
        yield from find("\n".join(value))
    elif isinstance(value, list | dict):
        for item in value if isinstance(value, list) else value.values():
            yield from _in_json(item)
