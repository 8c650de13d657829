"""Entries as bytes: RFC 8785, by way of a domain so small that a fast encoder agrees with it.

Two things make RFC 8785 slow and are the only ones in which msgspec's deterministic encoding differs from it: the
spelling of numbers with a fraction, and the order of keys beyond the basic plane. So the log has neither: a number
with a fraction or beyond 2^53 is written as text (as Prometheus writes sample values), and an entry with such a
character anywhere is encoded by the reference library. Tests compare both over all of the domain.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import Enum
from typing import Any

import msgspec
import rfc8785
from pydantic import SecretBytes, SecretStr

from remediator.audit.entry import Entry
from remediator.audit.redact import Redactor, Secret
from remediator.clock import format_duration, rfc3339
from remediator.errors import AuditError

LARGEST = 2**53 - 1
"""Largest integer that every reader of JSON reads alike; beyond it, text is written."""
DEPTH = 12
"""How deep data may nest; deeper levels are replaced by a remark."""

_ASTRAL = re.compile(rb"[\xf0-\xf4]")
_ENCODER = msgspec.json.Encoder(order="deterministic")


class NotRecordable(AuditError):
    """A value that has no place in the audit log: a defect in what wrote it, never input."""


class NotCanonical(AuditError):
    """Bytes that are not what this log would have written for what they say."""


def _no_fraction(text: str) -> float:
    raise ValueError(f"the number {text} has a fraction or an exponent")


_DECODER = msgspec.json.Decoder(Entry, float_hook=_no_fraction)


def encode(entry: Entry) -> bytes:
    """The canonical bytes of an entry whose data came from :func:`plain`."""
    fast = _ENCODER.encode(entry)
    return rfc8785.dumps(msgspec.to_builtins(entry)) if _ASTRAL.search(fast) else fast


def decode(canonical: bytes) -> Entry:
    """The entry that these bytes are.

    Raises:
        NotCanonical: not an entry, or not spelled in the one way.
    """
    try:
        entry = _DECODER.decode(canonical)
        if encode(entry) == canonical:
            return entry
    except (ValueError, RecursionError) as error:
        raise NotCanonical(f"it is not an entry: {error}") from error
    raise NotCanonical("it says something, but not in canonical form (RFC 8785)")


def plain(value: Any, redactor: Redactor, depth: int = DEPTH) -> Any:
    """A value as the log's small JSON: secrets are gone, fractions are text, long strings are cut.

    Takes ``None``, booleans, numbers, strings, bytes (as their length and digest), enums, instants, durations,
    mappings with string keys, sequences, sets, and secrets of any kind.

    Raises:
        NotRecordable: of another type.
    """
    kind = type(value)
    if kind is str:
        return redactor.text(value)
    if value is None or kind is bool:
        return value
    if kind is int:
        return value if -LARGEST <= value <= LARGEST else str(value)
    if kind is dict or isinstance(value, Mapping):
        return _mapping(value, redactor, depth - 1)
    if isinstance(value, list | tuple):
        return [plain(item, redactor, depth - 1) for item in value] if depth else "[nested too deeply]"
    return _rare(value, redactor, depth)


def _mapping(value: Mapping[Any, Any], redactor: Redactor, depth: int) -> Any:
    if depth < 0:
        return "[nested too deeply]"
    result: dict[str, Any] = {}
    for key, item in value.items():
        if not isinstance(key, str):
            raise NotRecordable(f"a key of the type {type(key).__name__} cannot be recorded")
        clean = redactor.text(key)
        result[clean] = redactor.named(key, plain(item, redactor, depth))
    return result


def _rare(value: Any, redactor: Redactor, depth: int) -> Any:
    match value:
        case Secret():
            return redactor.mark(value.reveal())
        case SecretStr() | SecretBytes():
            return redactor.mark(value.get_secret_value())
        case Enum():
            return plain(value.value, redactor, depth)
        case str():
            return redactor.text(str(value))
        case float():
            return repr(value)
        case datetime() if value.tzinfo is not None:
            return rfc3339(value)
        case timedelta():
            return format_duration(value)
        case bytes():
            return redactor.digest(value)
        case set() | frozenset():
            return sorted((plain(item, redactor, depth - 1) for item in value), key=str)
    raise NotRecordable(f"a value of the type {type(value).__name__} cannot be recorded")
