"""Canonical encoding of entries (RFC 8785).

msgspec's deterministic encoding is much faster than the reference library. It differs from RFC 8785 in the format of
numbers with a fraction. It also differs in the order of keys that contain characters outside the Basic Multilingual
Plane. The log therefore stores numbers with a fraction or beyond 2^53 as text (as Prometheus does with sample values).
An entry with such a character is encoded by the reference library. Tests compare both encoders.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from enum import Enum
from typing import Any

import msgspec
import rfc8785

from remediator.audit.entry import Entry, Frame
from remediator.audit.redact import Redactor, Secret
from remediator.core.clock import format_duration, rfc3339
from remediator.errors import AuditError

MAX_INTEGER = 2**53 - 1
"""Largest integer that every JSON reader reads exactly. Larger integers are written as text."""
MAX_DEPTH = 12
"""Maximum nesting of data. Deeper levels are replaced by a fixed text."""

_ASTRAL = re.compile(rb"[\xf0-\xf4]")
_TOO_DEEP = "[nested too deeply]"


class NotRecordable(AuditError):
    """A value has a type that the audit log cannot store. This is a bug in the code that wrote it, never bad input."""


class NotCanonical(AuditError):
    """The bytes are not the canonical encoding of an entry."""


def _no_fraction(text: str) -> float:
    raise ValueError(f"the number {text} has a fraction or an exponent")


_ENCODER = msgspec.json.Encoder(order="deterministic")
encode_ascii_into = _ENCODER.encode_into
"""Encode an entry into a buffer. Canonical only if the result is ASCII. For the inner loop of the verifier only."""
decode_unchecked = msgspec.json.Decoder(Entry, float_hook=_no_fraction).decode
"""Decode an entry without checking that the bytes are canonical. For the inner loop of the verifier; elsewhere, use
:func:`decode`."""
decode_frame = msgspec.json.Decoder(Frame).decode
"""Like :data:`decode_unchecked`, but leaves the data undecoded. For the inner loop of the verifier only."""


def encode(entry: Entry) -> bytes:
    """Return the canonical bytes of an entry whose data a :class:`Normalizer` produced."""
    fast = _ENCODER.encode(entry)
    if fast.isascii() or not _ASTRAL.search(fast):
        return fast
    return rfc8785.dumps(msgspec.to_builtins(entry))


def decode(canonical: bytes) -> Entry:
    """Decode canonical bytes.

    Raises:
        NotCanonical: the bytes are not an entry, or not in canonical form.
    """
    try:
        entry = decode_unchecked(canonical)
        if encode(entry) == canonical:
            return entry
    except (ValueError, RecursionError) as error:
        raise NotCanonical(f"not an entry: {error}") from error
    raise NotCanonical("a readable entry, but not in canonical form (RFC 8785)")


class Normalizer:
    """Converts the data of a draft into the JSON subset of the log: no secret types, no fractions, limited depth.

    Args:
        redactor: creates the text that replaces a secret.
        text: applied to every string.
        thorough: also redact by name: the key of a value, or the command-line option before it in a list.
    """

    def __init__(self, redactor: Redactor, text: Callable[[str], str], *, thorough: bool = False) -> None:
        self._redactor = redactor
        self._text = text
        self._thorough = thorough

    def value(self, value: Any, depth: int = MAX_DEPTH) -> Any:
        """Convert a value.

        Accepts ``None``, booleans, numbers, strings, bytes (stored as length and digest), enums, datetimes, timedeltas,
        mappings with string keys, sequences, sets, and secrets.

        Raises:
            NotRecordable: the value has another type.
        """
        kind = type(value)
        if kind is str:
            return self._text(value)
        if value is None or kind is bool:
            return value
        if kind is int:
            return value if -MAX_INTEGER <= value <= MAX_INTEGER else str(value)
        if kind is dict:
            return self.mapping(value, depth)
        if kind is list or kind is tuple:
            return self._list(value, depth)
        return self._rare(value, depth)

    def mapping(self, value: Mapping[Any, Any], depth: int = MAX_DEPTH) -> Any:
        """Convert a mapping. Keys must be strings."""
        if not depth:
            return _TOO_DEEP
        result: dict[str, Any] = {}
        for key, item in value.items():
            if not isinstance(key, str):
                raise NotRecordable(f"cannot record a key of the type {type(key).__name__!r}; use a string")
            plain = self.value(item, depth - 1)
            result[self._text(str(key))] = self._redactor.redact_field(key, plain) if self._thorough else plain
        return result

    def _list(self, value: Sequence[Any], depth: int) -> Any:
        if not depth:
            return _TOO_DEEP
        items = [self.value(item, depth - 1) for item in value]
        if not self._thorough:
            return items
        return [
            self._redactor.redact_argument(before, item) for before, item in zip([None, *items], items, strict=False)
        ]

    def _rare(self, value: Any, depth: int) -> Any:
        if isinstance(value, Secret):
            return self._redactor.placeholder(value.reveal())
        if hasattr(value, "get_secret_value"):  # pydantic's SecretStr; importing pydantic here would slow down the CLI
            return self._redactor.placeholder(value.get_secret_value())
        if isinstance(value, Mapping):
            return self.mapping(value, depth)
        if isinstance(value, set | frozenset):
            return sorted(self.value(list(value), depth), key=str) if depth else _TOO_DEEP
        for known, convert in _CONVERSIONS:
            if isinstance(value, known):
                return self.value(convert(value), depth)
        raise NotRecordable(f"cannot record a value of the type {type(value).__name__!r}")


# the order matters: an enum may also be a string; each conversion returns a type closer to JSON
_CONVERSIONS: tuple[tuple[type, Callable[[Any], Any]], ...] = (
    (Enum, lambda value: value.value),
    (str, str),
    (int, int),
    (float, repr),
    (datetime, rfc3339),
    (timedelta, format_duration),
    (bytes, lambda value: f"[{len(value)} bytes, sha256:{hashlib.sha256(value).hexdigest()}]"),
    (list, list),
    (tuple, list),
)
