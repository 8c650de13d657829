"""Time, as an argument: real in production, virtual in tests and simulation."""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime, timedelta
from typing import Protocol

from remediator.errors import InputError

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0, "y": 31536000.0}
_DURATION = re.compile(r"(?:(\d+)y)?(?:(\d+)w)?(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+)s)?(?:(\d+)ms)?")


class Clock(Protocol):
    """What the time is, and how to wait."""

    def now(self) -> datetime:
        """This instant, aware, in UTC."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait for so many seconds of this clock."""
        ...


class SystemClock:
    """The machine's own clock; waiting is the event loop's, so a virtual loop makes it virtual."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def to_micros(instant: datetime) -> int:
    """Microseconds since 1970-01-01T00:00:00Z; negative before. Exact, also for year 1."""
    return (instant - _EPOCH) // timedelta(microseconds=1)


def from_micros(micros: int) -> datetime:
    """The instant so many microseconds after the epoch."""
    return _EPOCH + timedelta(microseconds=micros)


def rfc3339(instant: datetime) -> str:
    """``2026-01-02T03:04:05.000006Z``: always UTC, always six decimals, so that it sorts as text."""
    return instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ").rjust(27, "0")


def parse_duration(text: str) -> timedelta:
    """A Prometheus duration (``5s``, ``1h30m``, ``250ms``; units in falling order) as a timedelta.

    Raises:
        InputError: not such a duration.
    """
    match = _DURATION.fullmatch(text)
    if text == "0":
        return timedelta(0)
    if not text or match is None:
        raise InputError(f"{text!r} is not a duration; write it like 30s, 5m or 1h30m")
    try:
        years, weeks, days, hours, minutes, seconds, millis = (int(group or 0) for group in match.groups())
        return timedelta(
            days=365 * years + days, weeks=weeks, hours=hours, minutes=minutes, seconds=seconds, milliseconds=millis
        )
    except (OverflowError, ValueError):  # more than a timedelta holds, more digits than Python reads
        raise InputError(f"{text[:40]!r} is longer than any duration can be") from None


def before(now: datetime, length: str) -> datetime:
    """The instant so long before: what ``--since 30d`` means.

    Raises:
        InputError: no duration, or longer than there has been time.
    """
    try:
        return now - parse_duration(length)
    except OverflowError:
        raise InputError(f"{length!r} is longer ago than time goes back") from None


def is_duration(text: str) -> bool:
    """Whether :func:`parse_duration` takes it."""
    try:
        parse_duration(text)
    except InputError:
        return False
    return True


def format_duration(length: timedelta) -> str:
    """The shortest Prometheus duration for a length, rounded to milliseconds; the inverse of parse_duration."""
    left = round(length.total_seconds() * 1000)
    if left == 0:
        return "0s"
    parts = ["-"] if left < 0 else []
    left = abs(left)
    for unit in ("d", "h", "m", "s", "ms"):
        size = round(_UNITS[unit] * 1000)
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts)
