"""iCalendar files: which events are on at an instant. Recurrences are left to the library that is kept for them."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from remediator.errors import ConfigurationError
from remediator.extensions.guards._windows import Span, earliest, latest

_DAY = timedelta(days=1)


def covering(path: Path, now: datetime, zone: ZoneInfo) -> Span | None:
    """The event of a calendar that an instant is in; of several the one that ends last.

    Whole days and times without a zone are in ``zone``. Cancelled events do not count. Where clocks are turned, a time
    that is skipped or comes twice is read so that the event is longer.

    Raises:
        ConfigurationError: the file cannot be read, is no calendar, has a time whose zone is not known, or the
            ``calendar`` extra is not installed.
    """
    try:
        stamp = path.stat()
        events = _parsed(path, stamp.st_mtime_ns, stamp.st_size).between(now - _DAY, now + _DAY)
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from None
    spans = [_span(event, zone) for event in events if str(event.get("STATUS", "")).upper() != "CANCELLED"]
    return max((span for span in spans if span.covers(now)), key=lambda span: span.end, default=None)


@lru_cache(maxsize=32)
def _parsed(path: Path, changed: int, size: int) -> Any:
    """The calendar, read again only when the file has changed."""
    try:
        import icalendar  # noqa: PLC0415 - an extra: only who imports calendars needs it
        import recurring_ical_events  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise ConfigurationError(f"{path}: {error.name} is not installed; install remediator[calendar]") from None
    try:
        calendar = icalendar.Calendar.from_ical(path.read_bytes())
        for event in calendar.walk("VEVENT"):
            _check(event, path)
        return recurring_ical_events.of(calendar)
    except ValueError as error:
        raise ConfigurationError(f"{path}: is no iCalendar file: {error}") from None


def _check(event: Any, path: Path) -> None:
    """Raise where an event would be left out, or be at another time than its author sees: a freeze that is missed."""
    if "DTSTART" not in event:
        raise ConfigurationError(f"{path}: an event has no DTSTART: {event.get('SUMMARY', 'without SUMMARY')}")
    for name in ("DTSTART", "DTEND"):
        zone = event[name].params.get("TZID") if name in event else None
        if zone is not None and isinstance(event[name].dt, datetime) and event[name].dt.tzinfo is None:
            raise ConfigurationError(f"{path}: there is no time zone {zone!r}, and the file does not define it")


def _span(event: Any, zone: ZoneInfo) -> Span:
    begin, end = event["DTSTART"].dt, event["DTEND"].dt if "DTEND" in event else None
    if end is None:
        length = event["DURATION"].dt if "DURATION" in event else (timedelta() if _timed(begin) else _DAY)
        end = begin + length
    if not _timed(begin) and end <= begin:  # RFC 5545 wants DTEND to be the day after; some calendars write the same
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
