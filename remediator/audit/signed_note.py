"""Signed notes (C2SP signed-note): text, an empty line, and signature lines that name their keys.

Keys are written as Go's ``golang.org/x/mod/sumdb/note`` writes them, so that tools of that family can use them:
``name+keyid+base64`` for verifiers and ``PRIVATE+KEY+name+keyid+base64`` for signers. Ed25519 only.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from remediator.errors import AuditError

ED25519 = b"\x01"
"""Signature type of the key, part of its id."""
MOST_SIGNATURES = 100
LARGEST_NOTE = 1 << 20

_LINE = re.compile(r"— ([^\s+]+) ([A-Za-z0-9+/]+={0,2})")
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f]")


class BadNote(AuditError):
    """Text that is not a signed note, or a key that is not one."""


class BadSignature(AuditError):
    """A signature by a key that is known, and it is wrong: somebody changed what was signed."""


class UnknownKey(AuditError):
    """No signature is by a key that is known, so nothing can be said of the text."""


def unbase64(text: str) -> bytes:
    """The bytes that the one base64 spelling stands for; nothing for any other spelling, so that none can differ."""
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""
    return raw if base64.b64encode(raw).decode() == text else b""


def _key_id(name: str, public: bytes) -> bytes:
    return hashlib.sha256(name.encode() + b"\n" + ED25519 + public).digest()[:4]


def check_name(name: str) -> str:
    """A key's name (a log's origin), if it can be one.

    Raises:
        BadNote: empty, or with white space or a plus sign in it.
    """
    if not name or any(character.isspace() or character == "+" for character in name) or _CONTROL.search(name):
        raise BadNote(f"{name!r} cannot name a key: it must not be empty nor contain spaces or plus signs")
    return name


@dataclass(frozen=True)
class Verifier:
    """A public key with its name."""

    name: str
    public: Ed25519PublicKey

    @property
    def key_id(self) -> bytes:
        """Four bytes that tell keys of the same name apart."""
        return _key_id(self.name, self.public.public_bytes_raw())

    def encode(self) -> str:
        """As one line: ``name+keyid+key``."""
        key = base64.b64encode(ED25519 + self.public.public_bytes_raw()).decode()
        return f"{self.name}+{self.key_id.hex()}+{key}"

    @classmethod
    def decode(cls, text: str) -> Verifier:
        """The key that :meth:`encode` wrote.

        Raises:
            BadNote: not such a line, or its id is not that of the key.
        """
        name, key_id, raw = _parts(text.strip())
        verifier = cls(check_name(name), Ed25519PublicKey.from_public_bytes(raw))
        if verifier.key_id != key_id:
            raise BadNote(f"the key {name} does not have the id that it is written with")
        return verifier

    def verify(self, text: str, signature: bytes) -> bool:
        """Whether the signature is this key's over the text."""
        try:
            self.public.verify(signature, text.encode())
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True)
class Signer:
    """A private key with its name. It does not print."""

    name: str
    private: Ed25519PrivateKey

    @classmethod
    def generate(cls, name: str) -> Signer:
        """A fresh key from the system's randomness."""
        return cls(check_name(name), Ed25519PrivateKey.generate())

    @property
    def verifier(self) -> Verifier:
        """Its public half."""
        return Verifier(self.name, self.private.public_key())

    def encode(self) -> str:
        """As one line, secret: ``PRIVATE+KEY+name+keyid+seed``."""
        seed = base64.b64encode(ED25519 + self.private.private_bytes_raw()).decode()
        return f"PRIVATE+KEY+{self.name}+{self.verifier.key_id.hex()}+{seed}"

    @classmethod
    def decode(cls, text: str) -> Signer:
        """The key that :meth:`encode` wrote.

        Raises:
            BadNote: not such a line; the message never repeats it.
        """
        prefix, _, rest = text.strip().partition("PRIVATE+KEY+")
        if prefix or not rest:
            raise BadNote("this is not a private key for signing notes (PRIVATE+KEY+name+id+key)")
        name, key_id, raw = _parts(rest)
        signer = cls(check_name(name), Ed25519PrivateKey.from_private_bytes(raw))
        if signer.verifier.key_id != key_id:
            raise BadNote(f"the private key {name} does not have the id that it is written with")
        return signer

    def signature_line(self, text: str) -> str:
        """The line, with its newline, that adds this key's signature to a note."""
        signature = base64.b64encode(self.verifier.key_id + self.private.sign(text.encode())).decode()
        return f"— {self.name} {signature}\n"


def _parts(text: str) -> tuple[str, bytes, bytes]:
    name, _, rest = text.partition("+")
    key_id, _, key = rest.partition("+")
    try:
        number = bytes.fromhex(key_id)
    except ValueError:
        raise BadNote("this is not a key for notes (name+id+key)") from None
    raw = unbase64(key)
    if len(raw) != 33 or raw[:1] != ED25519 or len(number) != 4:
        raise BadNote("this key is not an Ed25519 key for notes")
    return name, number, raw[1:]


def sign(text: str, signers: Sequence[Signer]) -> str:
    """A note over the text, signed by each.

    Raises:
        BadNote: the text does not end in a newline, or holds what a note must not.
    """
    if not text.endswith("\n") or _CONTROL.search(text) or not signers:
        raise BadNote("a note's text must end in a newline, hold no control characters, and have a signer")
    return text + "\n" + "".join(signer.signature_line(text) for signer in signers)


def split(note: str) -> tuple[str, list[tuple[str, bytes, bytes]]]:
    """A note's text and its signatures (key's name, key's id, signature), none of them verified.

    Raises:
        BadNote: not a note.
    """
    text, separator, signatures = note.rpartition("\n\n")
    lines = signatures.split("\n")
    if not separator or not text or lines[-1] or not 1 < len(lines) <= MOST_SIGNATURES + 1:
        raise BadNote("this is not a signed note: a text, an empty line, and signatures")
    if len(note) > LARGEST_NOTE or _CONTROL.search(note):
        raise BadNote("this note is too large, or holds control characters")
    return text + "\n", [_signature(line) for line in lines[:-1]]


def _signature(line: str) -> tuple[str, bytes, bytes]:
    match = _LINE.fullmatch(line)
    raw = unbase64(match[2]) if match else b""
    if match is None or len(raw) < 5:
        raise BadNote("this note has a signature line that is not one")
    return match[1], raw[:4], raw[4:]


def verify(note: str, verifiers: Sequence[Verifier]) -> tuple[str, list[Verifier]]:
    """The note's text, and which of the known keys have signed it; other signatures are ignored.

    Raises:
        BadNote: not a note.
        BadSignature: a known key's signature is wrong.
        UnknownKey: no known key has signed it.
    """
    text, signatures = split(note)
    known = {(verifier.name, verifier.key_id): verifier for verifier in verifiers}
    good = []
    for name, key_id, signature in signatures:
        verifier = known.get((name, key_id))
        if verifier is None:
            continue
        if not verifier.verify(text, signature):
            raise BadSignature(f"the signature of {name} is wrong: the text is not what that key signed")
        good.append(verifier)
    if not good:
        names = ", ".join(sorted({name for name, _, _ in signatures}))
        raise UnknownKey(f"it is signed by {names}, and none of these keys is among those that are trusted")
    return text, good
