"""Numbers, durations and times as text for readers."""

from __future__ import annotations

from datetime import datetime, timedelta

from remediator.core.clock import format_duration


def length(seconds: float | None) -> str:
    """Return a duration with its two largest units: ``850 ms``, ``4.2 s``, ``3 min 20 s``, ``2 h 5 min``; or ``-``."""
    if seconds is None:
        return "-"
    if seconds < 1:
        return f"{round(seconds * 1000)} ms"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for size, unit, below, smaller in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            rest = whole % size // below
            return f"{whole // size} {unit} {rest} {smaller}" if rest else f"{whole // size} {unit}"
    return f"{whole} s"


def share(part: int, whole: int) -> str:
    """Return a part in percent; ``-`` if the whole is 0."""
    return f"{part / whole:.0%}" if whole else "-"


def plural(count: int, one: str, many: str = "") -> str:
    """Return a count with its noun: ``1 run``, ``2 runs``."""
    return f"{count} {one if count == 1 else many or one + 's'}"


def capital(text: str) -> str:
    """Return a text that starts with a capital letter."""
    return text[:1].upper() + text[1:]


def local(at: datetime) -> datetime:
    """Return an instant in the time zone of this host, which the environment variable ``TZ`` sets."""
    return at.astimezone()


def format_time(at: datetime) -> str:
    """Return the local time with its zone: ``12:00:00 UTC``."""
    return f"{local(at):%H:%M:%S %Z}"


def format_datetime(at: datetime) -> str:
    """Return the local date and time with the zone: ``2026-03-04 12:00:00 UTC``."""
    return f"{local(at):%Y-%m-%d %H:%M:%S %Z}"


def format_age(span: timedelta) -> str:
    """Return a positive span in whole seconds: ``5m``; ``0s`` for a negative one."""
    return format_duration(timedelta(seconds=max(0, int(span.total_seconds()))))
