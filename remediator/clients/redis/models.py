"""Typed answers of Redis."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from remediator.clients.redis.connection import RedisBadAnswer, text

_LONGEST_NAME = 200


class Info(dict[str, str]):
    """The fields of INFO. A missing field or a wrong type raises `RedisBadAnswer`."""

    def text(self, name: str) -> str:
        """Return a field as text."""
        if name not in self:
            raise RedisBadAnswer(f"INFO has no field {name}")
        return self[name]

    def integer(self, name: str) -> int:
        """Return a field as an integer."""
        return int(self.number(name))

    def number(self, name: str) -> float:
        """Return a field as a number."""
        try:
            return float(self.text(name))
        except ValueError:
            raise RedisBadAnswer(f"INFO field {name} is not a number: {self[name]!r}") from None

    def flag(self, name: str) -> bool:
        """Return a field with the value 0 or 1 as a boolean."""
        return self.integer(name) != 0


@dataclass(frozen=True, slots=True)
class Role:
    """``master`` or ``slave``. A replica also has its master and the state of the link (``connected``, ``sync``, …)."""

    name: str
    offset: int
    replicas: int = 0
    master: tuple[str, int] | None = None
    link: str | None = None


@dataclass(frozen=True, slots=True)
class BigKey:
    """A key (shortened for display) and its memory in bytes."""

    name: str
    size: int


@dataclass(frozen=True, slots=True)
class BigKeys:
    """The biggest of the scanned keys. ``complete`` is true if all keys were scanned."""

    keys: tuple[BigKey, ...]
    scanned: int
    complete: bool


@dataclass(frozen=True, slots=True)
class SlowCommand:
    """An entry of the slow log: name and key of the command, never its values."""

    at: datetime
    took: timedelta
    command: str
    client: str


@dataclass(frozen=True, slots=True)
class LatencyEvent:
    """The latest and the worst latency of one cause, from the latency monitor."""

    cause: str
    at: datetime
    latest: timedelta
    worst: timedelta


@dataclass(frozen=True, slots=True)
class Client:
    """A connection to the server, with its memory there in bytes."""

    id: int
    address: str
    name: str
    user: str
    command: str
    age: timedelta
    idle: timedelta
    memory: int


_SEPARATOR = re.compile(r"([:/|#{}]+)")
_OF_SECRETS = re.compile(r"sess|token|auth|jwt|csrf|otp|secret|passw|api.?key|refresh|cookie", re.IGNORECASE)
"""The part of a key after such a word may be a credential: ``session:<id>`` is sufficient to use that session."""
_OPAQUE = re.compile(r"[0-9a-fA-F-]{16,}|(?=.*[a-z])(?=.*[A-Z])(?=.*\d)[\w+=.-]{16,}", re.ASCII)


def shown(name: bytes) -> str:
    """Return a key for display, without parts that may be credentials: ``session:…``, ``cart:…:items``."""
    parts = _SEPARATOR.split(text(name))
    for at in range(0, len(parts), 2):
        after_word = at >= 2 and any(_OF_SECRETS.search(before) for before in parts[:at:2])
        if parts[at] and (after_word or _OPAQUE.fullmatch(parts[at])):
            parts[at] = "…"
    whole = "".join(parts)
    return whole if len(whole) <= _LONGEST_NAME else whole[:_LONGEST_NAME] + "…"


def slow_commands(reply: Any) -> tuple[SlowCommand, ...]:
    """Parse the reply to SLOWLOG GET."""
    try:
        return tuple(_slow_command(entry) for entry in reply)
    except (IndexError, TypeError) as error:
        raise RedisBadAnswer(f"unexpected reply to SLOWLOG: {error}") from None


def _slow_command(entry: Any) -> SlowCommand:
    words = [shown(word) for word in entry[3][:2]]
    address = text(entry[4]) if len(entry) > 4 else ""
    return SlowCommand(instant(entry[1]), timedelta(microseconds=entry[2]), " ".join(words), address)


def latency_events(reply: Any) -> tuple[LatencyEvent, ...]:
    """Parse the reply to LATENCY LATEST."""
    try:
        return tuple(
            LatencyEvent(text(cause), instant(at), timedelta(milliseconds=latest), timedelta(milliseconds=worst))
            for cause, at, latest, worst, *_ in reply
        )
    except (ValueError, IndexError, TypeError) as error:
        raise RedisBadAnswer(f"unexpected reply to LATENCY: {error}") from None


def clients(reply: Any) -> tuple[Client, ...]:
    """Parse the reply to CLIENT LIST."""
    return tuple(_client(line) for line in text(reply).splitlines() if line)


def _client(line: str) -> Client:
    fields: Mapping[str, str] = dict(field.split("=", 1) for field in line.split(" ") if "=" in field)
    try:
        return Client(
            id=int(fields["id"]),
            address=fields["addr"],
            name=fields["name"],
            user=fields.get("user", ""),
            command=fields["cmd"],
            age=timedelta(seconds=int(fields["age"])),
            idle=timedelta(seconds=int(fields["idle"])),
            memory=int(fields.get("tot-mem", fields["omem"])),
        )
    except (KeyError, ValueError) as error:
        raise RedisBadAnswer(f"unexpected reply to CLIENT LIST: {error}") from None


def instant(seconds: Any) -> datetime:
    """Convert Unix time in seconds."""
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (TypeError, ValueError, OverflowError, OSError):
        raise RedisBadAnswer(f"{seconds!r} is not a valid time") from None


def role(reply: Any) -> Role:
    """Parse the reply to ROLE."""
    try:
        if reply[0] == b"master":
            return Role("master", int(reply[1]), replicas=len(reply[2]))
        master = (text(reply[1]), int(reply[2]))
        return Role(text(reply[0]), int(reply[4]), master=master, link=text(reply[3]))
    except (IndexError, TypeError, ValueError) as error:
        raise RedisBadAnswer(f"unexpected reply to ROLE: {error}") from None


def info(reply: Any) -> Info:
    """Parse the reply to INFO."""
    lines = text(reply).splitlines()
    return Info(line.split(":", 1) for line in lines if ":" in line and not line.startswith("#"))
