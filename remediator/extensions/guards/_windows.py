"""Weekly and dated windows in local time.

A local time that a clock change skips or repeats names two instants. A window begins at the earlier one and ends at the
later one, so that a freeze is never shorter than its author meant it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from remediator.core.types import Strict

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_CLOCK = re.compile(r"([01]\d|2[0-4]):([0-5]\d)")
_WEEKLY = re.compile(rf"({'|'.join(DAYS)}) (\S+)")
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Span:
    """One occurrence of a window, from ``begin`` (included) to ``end`` (excluded)."""

    begin: datetime
    end: datetime
    name: str

    def covers(self, now: datetime) -> bool:
        """Return whether an instant is in this span."""
        return self.begin <= now < self.end


def earliest(local: datetime, zone: ZoneInfo) -> datetime:
    """Return the first instant that a local time can mean in this zone."""
    return min(_readings(local, zone))


def latest(local: datetime, zone: ZoneInfo) -> datetime:
    """Return the last instant that a local time can mean in this zone."""
    return max(_readings(local, zone))


def _readings(local: datetime, zone: ZoneInfo) -> tuple[datetime, datetime]:
    first, second = (local.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
    return first, second


def zone_named(name: str) -> ZoneInfo:
    """Return an IANA time zone.

    Raises:
        ValueError: this machine has no zone with this name.
    """
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"unknown time zone {name!r}: use an IANA name, for example Europe/Berlin") from None


def _zone(name: str) -> str:
    zone_named(name)
    return name


Zone = Annotated[str, AfterValidator(_zone)]
"""The name of an IANA time zone."""


def _as_days(value: Any) -> Any:
    """Expand a day or a range of days, such as ``mon-fri``, to a list."""
    if not isinstance(value, str):
        return value
    first, dash, last = value.partition("-")
    if first not in DAYS or (dash and last not in DAYS):
        raise ValueError(f"unknown day {value!r}: use {', '.join(DAYS)}, or a range such as mon-fri")
    if not dash:
        return (first,)
    start, count = DAYS.index(first), (DAYS.index(last) - DAYS.index(first)) % 7 + 1
    return tuple(DAYS[(start + step) % 7] for step in range(count))


def _as_text(value: Any) -> Any:
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, int):
        raise ValueError(f"YAML reads an unquoted time as the number {value}: put it in quotes, for example '22:00'")
    return value


Days = Annotated[tuple[str, ...], BeforeValidator(_as_days)]
Edge = Annotated[str, BeforeValidator(_as_text)]


class Window(Strict):
    """A window in local time, in one of three forms.

    On days: ``{days: mon-fri, from: '22:00', to: '06:00'}``. If ``to`` is not later than ``from``, the window ends on
    the next day.
    Across the week: ``{from: fri 18:00, to: mon 08:00}``.
    Dates: ``{from: 2026-12-23T12:00, to: 2027-01-02}``. A date without a time means the whole day.
    """

    name: str = Field(default="", description="Name of the window in verdicts.")
    days: Days = Field(default=(), description="Days on which the window begins; with times in from and to.")
    from_: Edge = Field(alias="from", description="Begin: a time, a day with a time, or a date.")
    to: Edge = Field(description="End, in the same form as the begin.")

    @model_validator(mode="after")
    def _readable(self) -> Window:
        for day in self.days:
            if day not in DAYS:
                raise ValueError(f"unknown day {day!r}: use {', '.join(DAYS)}")
        dated = self._dated()
        if dated is not None and dated[0] >= dated[1]:
            raise ValueError(f"the window ends ({self.to}) before it begins ({self.from_})")
        if dated is None:
            self._weekly()
        return self

    def covering(self, now: datetime, zone: ZoneInfo) -> Span | None:
        """Return the occurrence that contains an instant; of several occurrences, the occurrence that ends last."""
        spans = []
        dated = self._dated()
        if dated is not None:
            spans.append(Span(earliest(dated[0], zone), latest(dated[1], zone), self.name))
        else:
            begins, length = self._weekly()
            today = now.astimezone(zone).date()
            for offset in range(-8, 2):
                day = today + offset * _DAY
                start = begins.get(day.weekday())
                if start is not None:
                    begin = datetime.combine(day, time()) + start
                    spans.append(Span(earliest(begin, zone), latest(begin + length, zone), self.name))
        return max((span for span in spans if span.covers(now)), key=lambda span: span.end, default=None)

    def _dated(self) -> tuple[datetime, datetime] | None:
        if self.days or _CLOCK.fullmatch(self.from_) or _WEEKLY.fullmatch(self.from_):
            return None
        return _instant(self.from_), _instant(self.to, whole_day=True)

    def _weekly(self) -> tuple[dict[int, timedelta], timedelta]:
        """Return the start time for each day of the week (0 is Monday), and the length in local time."""
        if self.days:
            start, end = _time_of_day(self.from_), _time_of_day(self.to)
            length = end - start if end > start else end - start + _DAY
            return {DAYS.index(day): start for day in self.days}, length
        first, start = _day_and_time(self.from_)
        last, end = _day_and_time(self.to)
        length = ((last - first) * _DAY + end - start) % (7 * _DAY)
        return {first: start}, length or 7 * _DAY


def _instant(text: str, *, whole_day: bool = False) -> datetime:
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(
            f"invalid time {text!r}: use '22:00' (with days), 'fri 18:00', 2026-12-23 or 2026-12-23T12:00"
        ) from None
    if instant.tzinfo is not None:
        raise ValueError(f"invalid time {text!r}: windows are in local time, so remove the offset and set timezone")
    return instant + _DAY if whole_day and len(text) <= len("2026-12-23") else instant


def _time_of_day(text: str) -> timedelta:
    found = _CLOCK.fullmatch(text)
    if found is None or (found[1] == "24" and found[2] != "00"):
        raise ValueError(f"invalid time of day {text!r}: use '22:00', in quotes")
    return timedelta(hours=int(found[1]), minutes=int(found[2]))


def _day_and_time(text: str) -> tuple[int, timedelta]:
    found = _WEEKLY.fullmatch(text)
    if found is None:
        raise ValueError(f"invalid day and time {text!r}: use 'fri 18:00', or set days")
    return DAYS.index(found[1]), _time_of_day(found[2])
