"""Signed tokens: short texts that only this installation can make, each for one purpose and with an expiry.

A token proves only its origin: the store decides about its rights. Keys rotate as a list: the first key signs, all keys
verify. Every error of a token has the same answer: the token is not valid.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as NotBase64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from remediator.core import untrusted_json
from remediator.core.key_files import create_key_file, read_key_file
from remediator.core.local_files import read_text
from remediator.errors import ConfigurationError

SKEW = timedelta(seconds=60)
"""How far ahead the clock of another replica may be. A token from further in the future is not valid."""
_MAX_LENGTH = 4096
_KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class Signed:
    """The content of a valid token."""

    content: Mapping[str, Any]
    made_at: datetime
    expires_at: datetime

    def expired(self, now: datetime) -> bool:
        """Return whether the token has expired. Its content is still authentic."""
        return now >= self.expires_at


class Keyring:
    """The keys of an installation.

    Args:
        keys: at least one, each of at least 32 bytes; the first one signs.
    """

    def __init__(self, keys: Sequence[bytes]) -> None:
        if not keys or any(len(key) < _KEY_BYTES for key in keys):
            raise ConfigurationError(f"a keyring needs at least one key of at least {_KEY_BYTES} bytes")
        self._keys = {_name(key): key for key in reversed(keys)}
        self._first = _name(keys[0])

    @property
    def names(self) -> list[str]:
        """Return the public names of the keys. The first one signs."""
        return [self._first, *(name for name in self._keys if name != self._first)]

    def sign(self, purpose: str, content: Mapping[str, Any], now: datetime, expires_at: datetime) -> str:
        """Return a token for one purpose. It has only ASCII letters, digits, ``-``, ``_`` and ``.``."""
        body = {"c": dict(content), "i": int(now.timestamp()), "e": int(expires_at.timestamp())}
        payload = f"{self._first}.{_encode(json.dumps(body, separators=(',', ':'), sort_keys=True).encode())}"
        return f"{payload}.{_encode(_mac(self._keys[self._first], purpose, payload))}"

    def read(self, purpose: str, token: str, now: datetime) -> Signed | None:
        """Return the content of a token of this purpose, expired or not; None if it is not valid."""
        if len(token) > _MAX_LENGTH or not token.isascii() or token.count(".") != 2:
            return None
        payload, _, mac = token.rpartition(".")
        key = self._keys.get(payload.partition(".")[0])
        if key is None:
            return None
        try:
            if not hmac.compare_digest(_decode(mac), _mac(key, purpose, payload)):
                return None
            body = untrusted_json.decode(_decode(payload.partition(".")[2]))
            made = Signed(body["c"], _instant(body["i"]), _instant(body["e"]))
        except (NotBase64, ValueError, KeyError, TypeError, OverflowError):
            return None
        return None if made.made_at > now + SKEW else made

    def digest(self, purpose: str, *parts: str) -> str:
        """Return a short proof that this installation has seen these parts together."""
        return _encode(_mac(self._keys[self._first], purpose, "\0".join(parts)))


def _name(key: bytes) -> str:
    return hashlib.sha256(b"name\0" + key).hexdigest()[:8]


def _mac(key: bytes, purpose: str, payload: str) -> bytes:
    own = hmac.digest(key, b"remediator\0" + purpose.encode(), "sha256")  # one derived key per purpose
    return hmac.digest(own, payload.encode(), "sha256")


def _encode(raw: bytes) -> str:
    return urlsafe_b64encode(raw).decode().rstrip("=")


def _decode(text: str) -> bytes:
    raw = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if _encode(raw) != text:
        raise ValueError("not the canonical encoding")
    return raw


def _instant(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def create_keyring(path: Path) -> None:
    """Create a file with one new key, unless the file exists.

    Raises:
        ConfigurationError: the file cannot be created.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        create_key_file(path, secrets.token_hex(_KEY_BYTES))
    except OSError as error:
        raise ConfigurationError(f"cannot create the signing keys '{path}': {error.strerror}") from None


def load_keyring(path: Path) -> Keyring:
    """Return the keys of a file, one per line, in hex.

    Raises:
        ConfigurationError: the file cannot be read, others can read it, or a line is not a key.
    """
    lines = [line.strip() for line in read_key_file(path).splitlines()]
    try:
        keys = [bytes.fromhex(line) for line in lines if line and not line.startswith("#")]
    except ValueError:
        raise ConfigurationError(
            f"'{path}' has a line that is not a key; expected {2 * _KEY_BYTES} hexadecimal digits per line"
        ) from None
    return Keyring(keys)


def create_secret(path: Path, make: Callable[[], str]) -> str:
    """Return the secret in a file that only this user can read. A missing file is created with a new one.

    Raises:
        ConfigurationError: the file cannot be created or read.
    """
    try:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            create_key_file(path, make())
        return read_text(path, follow=False).strip()
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"cannot use the secret in '{path}': {error}") from None
