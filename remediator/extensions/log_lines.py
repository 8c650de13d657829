"""Log lines with an age and an owner: which lines belong to the current start of a service, and when each was written.

A log file often survives many starts, and several processes may write to it. A line of an earlier incident proves
nothing about this incident, so signs of a cause are searched only in lines of this incident.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

_START = re.compile(
    r"oO0OoO0OoO0Oo (?:Redis|Valkey) is starting|FATAL CONFIG FILE ERROR|\[INFO\] Starting gunicorn|"
    r"\bStarted server process \[\d+\]"
)
"""The first line of a process: Redis, Valkey, gunicorn, uvicorn; also a Redis that rejects its configuration."""
_REDIS = re.compile(r"^(\d+):([A-Z]) (\d{2} \w{3} \d{4} \d{2}:\d{2}:\d{2}\.\d{3}) ")
_NGINX = re.compile(r"^(\d{4}/\d{2}/\d{2} \d{2}:\d{2}:\d{2}) ")
_ISO = re.compile(r"(\d{4}-\d{2}-\d{2})[T ](\d{2}:\d{2}:\d{2})(?:[.,](\d+))? ?(Z|[+-]\d{2}:?\d{2})?")
_STAMP = re.compile(r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(?:\.\d+)?(?:Z|[+-]\d{2}:?\d{2}) ")
_BEGINNING = 120
"""Number of leading characters of a line in which its time is searched."""
_CHILD = "C"
"""Role letter of a child of Redis, which writes snapshots under its own process ID, and of every Redis at its start."""
_AHEAD = timedelta(minutes=1)
"""A time this far in the future is of a clock or zone that we do not know; it dates nothing."""


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line without the time stamp that the platform added. ``at`` is None if its time is unknown."""

    text: str
    at: datetime | None


def of_last_start(text: str, *, previous: bool = False) -> str:
    """Return the lines of the last start of the process; with ``previous``, those of the start before.

    Text without the first line of a process is returned as it is, and has no previous start. Lines that another Redis
    process wrote to the same log are skipped.
    """
    lines = text.splitlines()
    starts = [number for number, line in enumerate(lines) if _START.search(line)]
    if not previous:
        return "\n".join(_owned(lines[starts[-1] :] if starts else lines))
    if not starts:
        return ""
    first = starts[-2] if len(starts) > 1 else 0
    return "\n".join(_owned(lines[first : starts[-1]]))


def _owned(lines: Sequence[str]) -> list[str]:
    """Return the lines of the Redis process that wrote the first line."""
    first = _REDIS.match(lines[0]) if lines else None
    if first is None or not _START.search(lines[0]):
        return list(lines)
    found = (_REDIS.match(line) for line in lines)
    return [
        line
        for line, match in zip(lines, found, strict=True)
        if match is None or match[1] == first[1] or match[2] == _CHILD
    ]


def shifted(text: str, ahead: timedelta) -> str:
    """Return lines of a journal with their times moved to the clock of this host.

    Args:
        text: lines that begin with a time and its zone.
        ahead: by how much the clock of the host of the journal is ahead. Less than a second changes nothing.
    """
    if abs(ahead) < timedelta(seconds=1):
        return text
    return "\n".join(_STAMP.sub(lambda found: _moved(found[0], ahead), line, count=1) for line in text.splitlines())


def _moved(stamp: str, ahead: timedelta) -> str:
    try:
        return f"{(datetime.fromisoformat(stamp.strip()) - ahead).isoformat()} "
    except (ValueError, OverflowError):  # these digits are not a time
        return stamp


def dated(text: str, now: datetime) -> list[LogLine]:
    """Return the lines with their times. A line without a time has the time of the previous line.

    A time without a zone is local: the log of a process on this host. Docker and Kubernetes add times with a zone.
    """
    found: list[LogLine] = []
    at: datetime | None = None
    for line in text.splitlines():
        time = _time(line)
        at = at if time is None else time if time <= now + _AHEAD else None
        found.append(LogLine(_STAMP.sub("", line, count=1), at))
    return found


def _time(line: str) -> datetime | None:
    try:
        if match := _REDIS.match(line):
            return datetime.strptime(match[3], "%d %b %Y %H:%M:%S.%f").astimezone(UTC)
        if match := _NGINX.match(line):
            return datetime.strptime(match[1], "%Y/%m/%d %H:%M:%S").astimezone(UTC)
        if match := _ISO.search(line[:_BEGINNING]):
            zone = (match[4] or "").replace("Z", "+00:00")
            return datetime.fromisoformat(f"{match[1]}T{match[2]}{zone}").astimezone(UTC)
    except ValueError:  # these digits are not a time
        return None
    return None
