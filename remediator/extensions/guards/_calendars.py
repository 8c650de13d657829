"""Events of iCalendar files at an instant. A library expands recurring events."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from remediator.core.local_files import open_regular
from remediator.errors import ConfigurationError
from remediator.extensions.guards._windows import Span, earliest, latest

_DAY = timedelta(days=1)


def covering(path: Path, now: datetime, zone: ZoneInfo) -> Span | None:
    """Return the event that contains an instant; of several events, the event that ends last.

    Whole days and times without a zone are in ``zone``. Cancelled events do not count. A local time that a clock change
    skips or repeats is read so that the event is longer.

    Raises:
        ConfigurationError: the file cannot be read or parsed, a time zone is unknown, or the ``calendar`` extra is not
            installed.
    """
    try:
        stamp = path.stat()
        events = _parsed(path, stamp.st_mtime_ns, stamp.st_size).between(now - _DAY, now + _DAY)
    except OSError as error:
        raise ConfigurationError(f"cannot read calendar {str(path)!r}: {error.strerror}") from None
    spans = [_span(event, zone) for event in events if str(event.get("STATUS", "")).upper() != "CANCELLED"]
    return max((span for span in spans if span.covers(now)), key=lambda span: span.end, default=None)


@lru_cache(maxsize=32)
def _parsed(path: Path, changed: int, size: int) -> Any:
    """Parse the calendar. The cache parses it again when the file has changed."""
    try:
        import icalendar  # noqa: PLC0415 - part of an extra
        import recurring_ical_events  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"cannot read calendar {str(path)!r}: {error.name!r} is not installed; install remediator[calendar]"
        ) from None
    try:
        with open_regular(path) as file:
            calendar = icalendar.Calendar.from_ical(file.read())
        for event in calendar.walk("VEVENT"):
            _check(event, path)
        return recurring_ical_events.of(calendar)
    except ValueError as error:
        raise ConfigurationError(f"cannot read calendar {str(path)!r}: not an iCalendar file: {error}") from None


def _check(event: Any, path: Path) -> None:
    """Refuse events that the library would drop or move, because a freeze would then be missed."""
    if "DTSTART" not in event:
        raise ConfigurationError(
            f"cannot read calendar {str(path)!r}: event {event.get('SUMMARY', '')!r} has no DTSTART"
        )
    for name in ("DTSTART", "DTEND"):
        zone = event[name].params.get("TZID") if name in event else None
        if zone is not None and isinstance(event[name].dt, datetime) and event[name].dt.tzinfo is None:
            raise ConfigurationError(
                f"cannot read calendar {str(path)!r}: unknown time zone {zone!r}, which the file does not define"
            )


def _span(event: Any, zone: ZoneInfo) -> Span:
    begin, end = event["DTSTART"].dt, event["DTEND"].dt if "DTEND" in event else None
    if end is None:
        length = event["DURATION"].dt if "DURATION" in event else (timedelta() if _timed(begin) else _DAY)
        end = begin + length
    if not _timed(begin) and end <= begin:  # RFC 5545: DTEND is the day after; some calendars repeat DTSTART
        end = begin + _DAY
    return Span(_instant(begin, zone, last=False), _instant(end, zone, last=True), str(event.get("SUMMARY", "")))


def _timed(value: date) -> bool:
    return isinstance(value, datetime)


def _instant(value: date, zone: ZoneInfo, *, last: bool) -> datetime:
    own = value.tzinfo if isinstance(value, datetime) else None
    if isinstance(value, datetime) and own is not None:
        if not isinstance(own, ZoneInfo):
            return value.astimezone(UTC)
        value, zone = value.replace(tzinfo=None), own
    local = value if isinstance(value, datetime) else datetime(value.year, value.month, value.day)  # noqa: DTZ001
    return latest(local, zone) if last else earliest(local, zone)
