"""Entries as bytes: RFC 8785, by way of a domain so small that a fast encoder agrees with it.

Two things make RFC 8785 slow and are the only ones in which msgspec's deterministic encoding differs from it: the
spelling of numbers with a fraction, and the order of keys beyond the basic plane. So the log has neither: a number
with a fraction or beyond 2^53 is written as text (as Prometheus writes sample values), and an entry with such a
character anywhere is encoded by the reference library. Tests compare both over all of the domain.
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

LARGEST = 2**53 - 1
"""Largest integer that every reader of JSON reads alike; beyond it, text is written."""
DEPTH = 12
"""How deep data may nest; deeper levels are replaced by a remark."""

_ASTRAL = re.compile(rb"[\xf0-\xf4]")
_TOO_DEEP = "[nested too deeply]"


class NotRecordable(AuditError):
    """A value that has no place in the audit log: a defect in what wrote it, never input."""


class NotCanonical(AuditError):
    """Bytes that are not what this log would have written for what they say."""


def _no_fraction(text: str) -> float:
    raise ValueError(f"the number {text} has a fraction or an exponent")


_ENCODER = msgspec.json.Encoder(order="deterministic")
encode_ascii_into = _ENCODER.encode_into
"""An entry's canonical bytes into a buffer, if they turn out to be ASCII. For the verifier's inner loop only."""
decode_whole = msgspec.json.Decoder(Entry, float_hook=_no_fraction).decode
"""An entry from bytes that need not be canonical. For the verifier's inner loop; others want :func:`decode`."""
decode_frame = msgspec.json.Decoder(Frame).decode
"""An entry from bytes that need not be canonical, its data passed over. For the verifier's inner loop only."""


def encode(entry: Entry) -> bytes:
    """The canonical bytes of an entry whose data came from a :class:`Plain`."""
    fast = _ENCODER.encode(entry)
    if fast.isascii() or not _ASTRAL.search(fast):
        return fast
    return rfc8785.dumps(msgspec.to_builtins(entry))


def decode(canonical: bytes) -> Entry:
    """The entry that these bytes are.

    Raises:
        NotCanonical: not an entry, or not spelled in the one way.
    """
    try:
        entry = decode_whole(canonical)
        if encode(entry) == canonical:
            return entry
    except (ValueError, RecursionError) as error:
        raise NotCanonical(f"it is not an entry: {error}") from error
    raise NotCanonical("it can be read, but is not in canonical form (RFC 8785)")


class Plain:
    """Turns what a draft holds into the log's small JSON: no secrets by type, no fractions, nothing endless.

    Args:
        redactor: leaves the marks.
        text: what becomes of every string.
        thorough: whether to look at what a value is named by, too: its key, or the option before it in a list.
    """

    def __init__(self, redactor: Redactor, text: Callable[[str], str], *, thorough: bool = False) -> None:
        self._redactor = redactor
        self._text = text
        self._thorough = thorough

    def value(self, value: Any, depth: int = DEPTH) -> Any:
        """Takes ``None``, booleans, numbers, strings, bytes (as their length and digest), enums, instants,
        durations, mappings with string keys, sequences, sets, and secrets of any kind.

        Raises:
            NotRecordable: of another type.
        """
        kind = type(value)
        if kind is str:
            return self._text(value)
        if value is None or kind is bool:
            return value
        if kind is int:
            return value if -LARGEST <= value <= LARGEST else str(value)
        if kind is dict:
            return self.mapping(value, depth)
        if kind is list or kind is tuple:
            return self._list(value, depth)
        return self._rare(value, depth)

    def mapping(self, value: Mapping[Any, Any], depth: int = DEPTH) -> Any:
        """A mapping, likewise."""
        if not depth:
            return _TOO_DEEP
        result: dict[str, Any] = {}
        for key, item in value.items():
            if not isinstance(key, str):
                raise NotRecordable(f"a key of the type {type(key).__name__} cannot be recorded")
            plain = self.value(item, depth - 1)
            result[self._text(str(key))] = self._redactor.named(key, plain) if self._thorough else plain
        return result

    def _list(self, value: Sequence[Any], depth: int) -> Any:
        if not depth:
            return _TOO_DEEP
        items = [self.value(item, depth - 1) for item in value]
        if not self._thorough:
            return items
        return [self._redactor.following(before, item) for before, item in zip([None, *items], items, strict=False)]

    def _rare(self, value: Any, depth: int) -> Any:
        if isinstance(value, Secret):
            return self._redactor.mark(value.reveal())
        if hasattr(value, "get_secret_value"):  # pydantic's; not imported, for it is heavy and not needed here
            return self._redactor.mark(value.get_secret_value())
        if isinstance(value, Mapping):
            return self.mapping(value, depth)
        if isinstance(value, set | frozenset):
            return sorted(self.value(list(value), depth), key=str) if depth else _TOO_DEEP
        for known, convert in _CONVERSIONS:
            if isinstance(value, known):
                return self.value(convert(value), depth)
        raise NotRecordable(f"a value of the type {type(value).__name__} cannot be recorded")


def _summary(content: bytes) -> str:
    return f"[{len(content)} bytes, sha256:{hashlib.sha256(content).hexdigest()}]"


# in this order, since an enum may be a string too; each gives a value that is nearer to JSON
_CONVERSIONS: tuple[tuple[type, Callable[[Any], Any]], ...] = (
    (Enum, lambda value: value.value),
    (str, str),
    (int, int),
    (float, repr),
    (datetime, rfc3339),
    (timedelta, format_duration),
    (bytes, _summary),
    (list, list),
    (tuple, list),
)
