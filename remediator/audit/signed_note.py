"""Signed notes (C2SP signed-note): a text, an empty line, and signature lines that name their keys.

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

from remediator.core.sizes import MEBIBYTE
from remediator.errors import AuditError

ED25519 = b"\x01"
"""Signature type; part of the key ID."""
MAX_SIGNATURES = 100
MAX_NOTE_LENGTH = MEBIBYTE
"""Maximum length of a note, in characters."""

_LINE = re.compile(r"— ([^\s+]+) ([A-Za-z0-9+/]+={0,2})")
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f]")


class BadNote(AuditError):
    """A text is not a signed note, or a text is not a key."""


class BadSignature(AuditError):
    """The signature of a known key is wrong: the text was changed after signing."""


class UnknownKey(AuditError):
    """No signature is from a known key, so the text cannot be verified."""


def decode_base64(text: str) -> bytes:
    """Decode canonical base64. Return empty bytes for any other text, so that one value has exactly one encoding."""
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""
    return raw if base64.b64encode(raw).decode() == text else b""


def check_name(name: str) -> str:
    """Return the name of a key (the origin of a log) if it is valid.

    Raises:
        BadNote: the name is empty, or contains white space or a plus sign.
    """
    if not name or any(character.isspace() or character == "+" for character in name) or _CONTROL.search(name):
        raise BadNote(
            f"invalid key name {name!r}: it must not be empty or contain spaces or '+', for example remediator.example"
        )
    return name


@dataclass(frozen=True)
class Verifier:
    """A public key with its name."""

    name: str
    public: Ed25519PublicKey

    @property
    def key_id(self) -> bytes:
        """Return the four bytes that distinguish keys of the same name."""
        return hashlib.sha256(self.name.encode() + b"\n" + ED25519 + self.public.public_bytes_raw()).digest()[:4]

    def encode(self) -> str:
        """Return the key as one line: ``name+keyid+key``."""
        key = base64.b64encode(ED25519 + self.public.public_bytes_raw()).decode()
        return f"{self.name}+{self.key_id.hex()}+{key}"

    @classmethod
    def decode(cls, text: str) -> Verifier:
        """Parse the result of :meth:`encode`.

        Raises:
            BadNote: the text is not a key, or the key ID is wrong.
        """
        name, key_id, raw = _parts(text.strip())
        verifier = cls(check_name(name), Ed25519PublicKey.from_public_bytes(raw))
        if verifier.key_id != key_id:
            raise BadNote(f"the public key {name!r} has a wrong key ID; copy the line again")
        return verifier

    def verify(self, text: str, signature: bytes) -> bool:
        """Return whether this key made the signature over the text."""
        try:
            self.public.verify(signature, text.encode())
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True)
class Signer:
    """A private key with its name. It is never printed."""

    name: str
    private: Ed25519PrivateKey

    @classmethod
    def generate(cls, name: str) -> Signer:
        """Create a key with the random number generator of the system."""
        return cls(check_name(name), Ed25519PrivateKey.generate())

    @classmethod
    def from_seed(cls, name: str, seed: bytes) -> Signer:
        """Create the key of 32 random bytes."""
        return cls(check_name(name), Ed25519PrivateKey.from_private_bytes(seed))

    @property
    def verifier(self) -> Verifier:
        """Return the public key."""
        return Verifier(self.name, self.private.public_key())

    def encode(self) -> str:
        """Return the key as one line: ``PRIVATE+KEY+name+keyid+seed``. The line is secret."""
        seed = base64.b64encode(ED25519 + self.private.private_bytes_raw()).decode()
        return f"PRIVATE+KEY+{self.name}+{self.verifier.key_id.hex()}+{seed}"

    @classmethod
    def decode(cls, text: str) -> Signer:
        """Parse the result of :meth:`encode`.

        Raises:
            BadNote: the text is not a private key. The message never contains the text.
        """
        prefix, _, rest = text.strip().partition("PRIVATE+KEY+")
        if prefix or not rest:
            raise BadNote("not a private key: expected PRIVATE+KEY+NAME+ID+KEY")
        name, key_id, raw = _parts(rest)
        signer = cls(check_name(name), Ed25519PrivateKey.from_private_bytes(raw))
        if signer.verifier.key_id != key_id:
            raise BadNote(f"the private key {name!r} has a wrong key ID; copy the line again")
        return signer

    def signature_line(self, text: str) -> str:
        """Return the signature line of this key for a note, with its newline."""
        signature = base64.b64encode(self.verifier.key_id + self.private.sign(text.encode())).decode()
        return f"— {self.name} {signature}\n"


def _parts(text: str) -> tuple[str, bytes, bytes]:
    name, _, rest = text.partition("+")
    key_id, _, key = rest.partition("+")
    try:
        number = bytes.fromhex(key_id)
    except ValueError:
        raise BadNote("not a key: expected NAME+ID+KEY") from None
    raw = decode_base64(key)
    if len(raw) != 33 or raw[:1] != ED25519 or len(number) != 4:
        raise BadNote("not an Ed25519 key")
    return name, number, raw[1:]


def sign(text: str, signers: Sequence[Signer]) -> str:
    """Return a note: the text with the signature of each signer.

    Raises:
        BadNote: the text does not end in a newline or contains control characters, or there is no signer.
    """
    if not text.endswith("\n") or _CONTROL.search(text) or not signers:
        raise BadNote(
            "cannot sign the note: the text must end in a newline and contain no control characters, and needs a signer"
        )
    return text + "\n" + "".join(signer.signature_line(text) for signer in signers)


def split(note: str) -> tuple[str, list[tuple[str, bytes, bytes]]]:
    """Return the text of a note and its signatures (key name, key ID, signature). Nothing is verified.

    Raises:
        BadNote: the text is not a note.
    """
    text, separator, signatures = note.rpartition("\n\n")
    lines = signatures.split("\n")
    if not separator or not text or lines[-1] or not 1 < len(lines) <= MAX_SIGNATURES + 1:
        raise BadNote("not a signed note: expected a text, an empty line and signatures")
    if len(note) > MAX_NOTE_LENGTH or _CONTROL.search(note):
        raise BadNote("the note is too large, or contains control characters")
    found = []
    for line in lines[:-1]:
        match = _LINE.fullmatch(line)
        raw = decode_base64(match[2]) if match else b""
        if match is None or len(raw) < 5:
            raise BadNote("the note has an invalid signature line")
        found.append((match[1], raw[:4], raw[4:]))
    return text + "\n", found


def verify(note: str, verifiers: Sequence[Verifier]) -> tuple[str, list[Verifier]]:
    """Verify a note. Return its text and the known keys that signed it; other signatures are ignored.

    Raises:
        BadNote: the text is not a note.
        BadSignature: the signature of a known key is wrong.
        UnknownKey: no known key signed the note.
    """
    text, signatures = split(note)
    known = {(verifier.name, verifier.key_id): verifier for verifier in verifiers}
    good = []
    for name, key_id, signature in signatures:
        verifier = known.get((name, key_id))
        if verifier is None:
            continue
        if not verifier.verify(text, signature):
            raise BadSignature(f"the signature of the key {name!r} is wrong: the text was changed after signing")
        good.append(verifier)
    if not good:
        names = ", ".join(sorted({name for name, _, _ in signatures}))
        raise UnknownKey(
            f"it is signed with {names}, and no signing key is trusted; give the right public key with --key"
        )
    return text, good
