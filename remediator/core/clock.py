"""The clock as an argument (real in production, virtual in tests and simulation), and durations."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from threading import Lock
from typing import Protocol

from remediator.errors import InputError

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0, "y": 31536000.0}
_CATCHING_UP = 0.9
_NOTABLE = timedelta(seconds=5)
_DURATION = re.compile(r"(?:(\d+)y)?(?:(\d+)w)?(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+)s)?(?:(\d+)ms)?", re.ASCII)


class Clock(Protocol):
    """A source of time."""

    def now(self) -> datetime:
        """Return the current time, with time zone UTC."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait for a number of seconds of this clock."""
        ...


class SystemClock:
    """The clock of the host. It waits with the event loop, so that a virtual loop makes it virtual."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class SteadyClock(SystemClock):
    """The clock of the host, but it never goes back: timers, leases and the order of entries rely on it.

    If the clock of the host is set back, this clock runs at 90 % of its speed until that clock has caught up. It
    follows a step forward at once.

    Args:
        monotonic: seconds that no step of the clock changes.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._at, self._last = monotonic(), super().now()
        self._lock = Lock()

    def now(self) -> datetime:
        with self._lock:
            at, host = self._monotonic(), super().now()
            self._last = max(host, self._last + timedelta(seconds=_CATCHING_UP * (at - self._at)))
            self._at = at
            return self._last

    def continue_from(self, instant: datetime | None) -> None:
        """Never return a time before this instant, if it is given: the last time at which this clock was used."""
        with self._lock:
            self._last = max(self._last, instant or self._last)

    def problem(self) -> str:
        """Return how far the clock of the host is behind this clock; empty if the difference is only seconds."""
        behind = self.now() - super().now()
        if behind < _NOTABLE:
            return ""
        minutes = behind // timedelta(minutes=1)  # write minutes only: the service logs each new text
        length = format_duration(timedelta(minutes=minutes)) if minutes else "less than a minute"
        return f"it was set back by {length}; times that are written now are ahead of it; synchronize it with NTP"


def to_micros(instant: datetime) -> int:
    """Return the microseconds since 1970-01-01T00:00:00Z: exact, negative before."""
    return (instant - _EPOCH) // timedelta(microseconds=1)


def from_micros(micros: int) -> datetime:
    """Return the instant at a number of microseconds after 1970-01-01T00:00:00Z."""
    return _EPOCH + timedelta(microseconds=micros)


def rfc3339(instant: datetime) -> str:
    """Return ``2026-01-02T03:04:05.000006Z``: always UTC with six decimals, so that it sorts as text."""
    return instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ").rjust(27, "0")


def parse_duration(text: str) -> timedelta:
    """Return a Prometheus duration (``5s``, ``1h30m``, ``250ms``; largest unit first) as a timedelta.

    Raises:
        InputError: it is not a duration, or too long.
    """
    match = _DURATION.fullmatch(text)
    if text == "0":
        return timedelta(0)
    if not text or match is None:
        raise InputError(f"invalid duration {text!r}: expected for example 30s, 5m or 1h30m")
    try:
        years, weeks, days, hours, minutes, seconds, millis = (int(group or 0) for group in match.groups())
        return timedelta(
            days=365 * years + days, weeks=weeks, hours=hours, minutes=minutes, seconds=seconds, milliseconds=millis
        )
    except (OverflowError, ValueError):  # more than a timedelta can hold, or more digits than Python parses
        raise InputError(f"invalid duration {text[:40]!r}: it is too long") from None


def before(now: datetime, length: str) -> datetime:
    """Return the instant that is a duration before ``now``, as for ``--since 30d``.

    Raises:
        InputError: it is not a duration, or the instant is before year 1.
    """
    try:
        return now - parse_duration(length)
    except OverflowError:
        raise InputError(f"invalid duration {length!r}: it reaches back before year 1") from None


def parse_moment(text: str, now: datetime) -> datetime:
    """Return an instant in UTC: an ISO 8601 time (without an offset: in UTC), or a duration before ``now``.

    Raises:
        InputError: it is neither, or the instant is before year 1.
    """
    if is_duration(text):
        return before(now, text)
    try:
        at = datetime.fromisoformat(text.upper())
    except ValueError:
        raise InputError(
            f"expected a time like 2026-01-31T08:00:00Z, or a duration like 2h, not {text[:64]!r}"
        ) from None
    try:
        return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except OverflowError:  # some hours before year 1 or after year 9999 in UTC
        return datetime.min.replace(tzinfo=UTC) if at.year == 1 else datetime.max.replace(tzinfo=UTC)


def is_duration(text: str) -> bool:
    """Return whether :func:`parse_duration` accepts a text."""
    try:
        parse_duration(text)
    except InputError:
        return False
    return True


def format_duration(length: timedelta) -> str:
    """Return the shortest Prometheus duration, rounded to milliseconds. The inverse of :func:`parse_duration`."""
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
