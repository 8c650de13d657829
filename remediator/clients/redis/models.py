"""What a Redis tells, typed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from remediator.clients.redis.connection import RedisBadAnswer, text

_LONGEST_NAME = 200


class Info(dict[str, str]):
    """The fields of INFO. Asking for one that is not there, or is not of that type, raises `RedisBadAnswer`."""

    def text(self, name: str) -> str:
        """As it came."""
        if name not in self:
            raise RedisBadAnswer(f"INFO has no field {name}")
        return self[name]

    def integer(self, name: str) -> int:
        """As a whole number."""
        return int(self.number(name))

    def number(self, name: str) -> float:
        """As a number."""
        try:
            return float(self.text(name))
        except ValueError:
            raise RedisBadAnswer(f"INFO says {name}:{self[name]}, which is not a number") from None

    def flag(self, name: str) -> bool:
        """Of a field that is 0 or 1."""
        return self.integer(name) != 0


@dataclass(frozen=True, slots=True)
class Role:
    """``master`` or ``slave``; a replica's master and the state of its link (``connected``, ``sync``, …)."""

    name: str
    offset: int
    replicas: int = 0
    master: tuple[str, int] | None = None
    link: str | None = None


@dataclass(frozen=True, slots=True)
class BigKey:
    """A key (shortened for display) and the bytes that it takes in memory."""

    name: str
    size: int


@dataclass(frozen=True, slots=True)
class BigKeys:
    """The biggest of the keys that were looked at; ``complete`` if those were all."""

    keys: tuple[BigKey, ...]
    scanned: int
    complete: bool


@dataclass(frozen=True, slots=True)
class SlowCommand:
    """One entry of the slow log: the command's name and key, never its values."""

    at: datetime
    took: timedelta
    command: str
    client: str


@dataclass(frozen=True, slots=True)
class LatencyEvent:
    """The latest and the worst pause of one cause, by the latency monitor."""

    cause: str
    at: datetime
    latest: timedelta
    worst: timedelta


@dataclass(frozen=True, slots=True)
class Client:
    """A connection to the server, and the bytes of memory that it takes there."""

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
"""What stands behind such a word is somebody's way in: whoever has ``session:<id>`` is signed in as its user."""
_OPAQUE = re.compile(r"[0-9a-fA-F-]{16,}|(?=.*[a-z])(?=.*[A-Z])(?=.*\d)[\w+=.-]{16,}", re.ASCII)


def shown(name: bytes) -> str:
    """A key or word for display, without the parts that may be credentials: ``session:…``, ``cart:…:items``."""
    parts = _SEPARATOR.split(text(name))
    for at in range(0, len(parts), 2):
        after_word = at >= 2 and any(_OF_SECRETS.search(before) for before in parts[:at:2])
        if parts[at] and (after_word or _OPAQUE.fullmatch(parts[at])):
            parts[at] = "…"
    whole = "".join(parts)
    return whole if len(whole) <= _LONGEST_NAME else whole[:_LONGEST_NAME] + "…"


def slow_commands(reply: Any) -> tuple[SlowCommand, ...]:
    """From SLOWLOG GET."""
    try:
        return tuple(_slow_command(entry) for entry in reply)
    except (IndexError, TypeError) as error:
        raise RedisBadAnswer(f"SLOWLOG was answered with something unexpected: {error}") from None


def _slow_command(entry: Any) -> SlowCommand:
    words = [shown(word) for word in entry[3][:2]]
    address = text(entry[4]) if len(entry) > 4 else ""
    return SlowCommand(instant(entry[1]), timedelta(microseconds=entry[2]), " ".join(words), address)


def latency_events(reply: Any) -> tuple[LatencyEvent, ...]:
    """From LATENCY LATEST."""
    try:
        return tuple(_latency_event(entry) for entry in reply)
    except (ValueError, IndexError, TypeError) as error:
        raise RedisBadAnswer(f"LATENCY was answered with something unexpected: {error}") from None


def _latency_event(entry: Any) -> LatencyEvent:
    cause, at, latest, worst = entry[:4]
    return LatencyEvent(text(cause), instant(at), timedelta(milliseconds=latest), timedelta(milliseconds=worst))


def clients(reply: Any) -> tuple[Client, ...]:
    """From CLIENT LIST."""
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
        raise RedisBadAnswer(f"CLIENT LIST was answered with something unexpected: {error}") from None


def instant(seconds: Any) -> datetime:
    """From seconds since 1970."""
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (TypeError, ValueError, OverflowError, OSError):
        raise RedisBadAnswer(f"{seconds!r} is not a time") from None


def role(reply: Any) -> Role:
    """From ROLE."""
    try:
        if reply[0] == b"master":
            return Role("master", int(reply[1]), replicas=len(reply[2]))
        master = (text(reply[1]), int(reply[2]))
        return Role(text(reply[0]), int(reply[4]), master=master, link=text(reply[3]))
    except (IndexError, TypeError, ValueError) as error:
        raise RedisBadAnswer(f"ROLE was answered with something unexpected: {error}") from None


def info(reply: Any) -> Info:
    """From INFO."""
    lines = text(reply).splitlines()
    return Info(line.split(":", 1) for line in lines if ":" in line and not line.startswith("#"))
