"""Freeze windows: weekly, dated and from calendars, in local time, also when the clocks change."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from remediator.extensions.clientset import ClientSet
from remediator.extensions.guards._windows import Window
from remediator.extensions.guards.base import GuardAnswer
from remediator.extensions.guards.freeze import FreezeSettings
from tests.support.guard_history import Harness

BERLIN = ZoneInfo("Europe/Berlin")
WEEKEND = {"name": "weekend", "from": "fri 18:00", "to": "mon 08:00"}
NIGHTS = {"name": "nights", "days": "mon-fri", "from": "22:00", "to": "06:00"}
LAUNCH = {"name": "launch", "from": "2026-12-23T12:00", "to": "2027-01-02"}


def berlin(text: str) -> datetime:
    """Return the instant of a local time in Berlin."""
    return datetime.fromisoformat(text).replace(tzinfo=BERLIN).astimezone(UTC)


def covered(window: dict[str, Any], now: datetime, zone: ZoneInfo = BERLIN) -> bool:
    return Window.model_validate(window).covering(now, zone) is not None


async def test_it_blocks_inside_a_window(harness: Harness) -> None:
    """In a window the guard blocks until its end, which the verdict gives in UTC and in local time."""
    harness.clock.time = berlin("2026-03-07 10:00")

    verdict = await harness.verdict("freeze", {"timezone": "Europe/Berlin", "windows": [WEEKEND]})

    assert verdict.sentence == (
        "blocked: freeze 'weekend' until 2026-03-09 07:00:00Z (Mon 08:00 Europe/Berlin), by windows"
    )
    assert verdict.until == berlin("2026-03-09 08:00")


async def test_it_allows_outside(harness: Harness) -> None:
    """Outside of all windows, and without windows, the guard allows."""
    harness.clock.time = berlin("2026-03-09 08:00")

    assert (
        await harness.verdict("freeze", {"timezone": "Europe/Berlin", "windows": [WEEKEND]})
    ).answer is GuardAnswer.ALLOW
    assert (await harness.verdict("freeze")).answer is GuardAnswer.ALLOW


@pytest.mark.parametrize(
    ("window", "now", "expected"),
    [
        (WEEKEND, "2026-03-06 17:59:59", False),
        (WEEKEND, "2026-03-06 18:00", True),
        (WEEKEND, "2026-03-08 23:00", True),
        (WEEKEND, "2026-03-09 07:59:59", True),
        (WEEKEND, "2026-03-09 08:00", False),
        (NIGHTS, "2026-03-06 23:00", True),
        (NIGHTS, "2026-03-07 05:59", True),
        (NIGHTS, "2026-03-07 23:00", False),
        (NIGHTS, "2026-03-09 05:00", False),
        (LAUNCH, "2026-12-23 11:59", False),
        (LAUNCH, "2026-12-23 12:00", True),
        (LAUNCH, "2027-01-02 23:59:59", True),
        (LAUNCH, "2027-01-03 00:00", False),
        ({"days": ["sat", "sun"], "from": "00:00", "to": "24:00"}, "2026-03-08 23:59", True),
        ({"days": ["sat", "sun"], "from": "00:00", "to": "24:00"}, "2026-03-09 00:00", False),
        ({"from": "mon 00:00", "to": "mon 00:00"}, "2026-03-05 12:00", True),
    ],
)
def test_a_window_includes_its_start_and_excludes_its_end(window: dict[str, Any], now: str, expected: bool) -> None:
    """The start belongs to the window and the end does not, also across midnight and the end of the week."""
    assert covered(window, berlin(now)) is expected


def test_a_skipped_start_time_starts_the_window_early() -> None:
    """02:30 does not exist on 29 March in Berlin: of the two possible instants, the earlier one starts the window."""
    window = {"days": ["sun"], "from": "02:30", "to": "05:00"}

    assert not covered(window, datetime(2026, 3, 29, 0, 29, tzinfo=UTC))
    assert covered(window, datetime(2026, 3, 29, 0, 30, tzinfo=UTC))
    assert covered(window, datetime(2026, 3, 29, 2, 59, tzinfo=UTC))
    assert not covered(window, datetime(2026, 3, 29, 3, 0, tzinfo=UTC))


def test_a_skipped_end_time_ends_the_window_late() -> None:
    """If the end does not exist on that day, the later of the two possible instants ends the window."""
    window = {"days": ["sun"], "from": "00:00", "to": "02:30"}

    assert covered(window, datetime(2026, 3, 29, 1, 29, tzinfo=UTC))
    assert not covered(window, datetime(2026, 3, 29, 1, 30, tzinfo=UTC))


def test_times_that_the_clocks_repeat_are_in_the_window_twice() -> None:
    """02:30 occurs twice on 25 October in Berlin: a window starts at the first and ends at the second."""
    begins = {"days": ["sun"], "from": "02:30", "to": "04:00"}
    ends = {"days": ["sun"], "from": "01:00", "to": "02:30"}
    first, second = datetime(2026, 10, 25, 0, 30, tzinfo=UTC), datetime(2026, 10, 25, 1, 30, tzinfo=UTC)

    assert covered(begins, first)
    assert covered(begins, second)
    assert covered(ends, second - timedelta(seconds=1))
    assert not covered(ends, second)


@given(
    start=st.integers(0, 24 * 60 - 1),
    length=st.integers(1, 24 * 60 - 1),
    hours=st.floats(0, 2 * 365 * 24),
    zone=st.sampled_from(["Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe", "Asia/Kathmandu", "UTC"]),
)
def test_a_wall_clock_inside_the_window_is_always_frozen(start: int, length: int, hours: float, zone: str) -> None:
    """If the wall clock shows a time of the window, the guard blocks, also when the clocks change."""
    end = (start + length) % (24 * 60)
    text = [f"{minutes // 60:02}:{minutes % 60:02}" for minutes in (start, end)]
    window = {"days": "mon-sun", "from": text[0], "to": text[1]}
    now = datetime(2025, 1, 1, tzinfo=UTC) + timedelta(hours=hours)
    local = now.astimezone(ZoneInfo(zone))
    wall = local.hour * 60 + local.minute
    inside = start <= wall < end if start < end else wall >= start or wall < end

    if inside:
        assert covered(window, now, ZoneInfo(zone))


@pytest.mark.parametrize(
    ("window", "message"),
    [
        ({"from": "22:00", "to": "06:00"}, "invalid day and time"),
        ({"days": "mon-fri", "from": "25:00", "to": "06:00"}, "invalid time of day"),
        ({"days": "mon-fri", "from": 1320, "to": "06:00"}, "put it in quotes"),
        ({"days": "monday", "from": "22:00", "to": "06:00"}, "unknown day"),
        ({"from": "2026-12-23", "to": "2026-12-20"}, "before it begins"),
        ({"from": "2026-12-23T12:00+01:00", "to": "2026-12-24"}, "set timezone"),
    ],
)
def test_a_window_that_makes_no_sense_is_refused(window: dict[str, Any], message: str) -> None:
    """An invalid window is refused when the settings are loaded, with an example of a valid one."""
    with pytest.raises(ValidationError, match=message):
        Window.model_validate(window)


def test_an_unknown_time_zone_is_refused() -> None:
    """A misspelt time zone is refused when the settings are loaded."""
    with pytest.raises(ValidationError, match="Europe/Berlin"):
        FreezeSettings.model_validate({"timezone": "Europe/Berlinn"})


CALENDAR = """BEGIN:VCALENDAR
VERSION:2.0
PRODID:-//test//test//EN
BEGIN:VEVENT
UID:1
DTSTART;VALUE=DATE:20260304
DTEND;VALUE=DATE:20260305
SUMMARY:Public holiday
END:VEVENT
BEGIN:VEVENT
UID:2
DTSTART;TZID=Europe/Berlin:20260302T220000
DTEND;TZID=Europe/Berlin:20260303T020000
RRULE:FREQ=WEEKLY;BYDAY=MO
SUMMARY:Batch night
END:VEVENT
BEGIN:VEVENT
UID:3
DTSTART:20260310T100000Z
DTEND:20260310T110000Z
STATUS:CANCELLED
SUMMARY:Called off
END:VEVENT
END:VCALENDAR
"""


@pytest.mark.parametrize(
    ("now", "summary"),
    [
        ("2026-03-03 23:30", None),
        ("2026-03-04 00:00", "Public holiday"),
        ("2026-03-04 23:59", "Public holiday"),
        ("2026-03-05 00:00", None),
        ("2026-03-30 22:00", "Batch night"),
        ("2026-03-31 01:59", "Batch night"),
        ("2026-03-31 02:00", None),
        ("2026-03-10 11:30", None),
    ],
)
async def test_events_of_a_calendar_freeze(tmp_path: Path, harness: Harness, now: str, summary: str | None) -> None:
    """All-day events and recurring events freeze, also over midnight and clock changes; cancelled events do not."""
    pytest.importorskip("recurring_ical_events")
    (tmp_path / "holidays.ics").write_text(CALENDAR.replace("\n", "\r\n"))
    harness = Harness(harness.store, harness.clock, ClientSet(folder=tmp_path))
    harness.clock.time = berlin(now)

    verdict = await harness.verdict("freeze", {"timezone": "Europe/Berlin", "calendars": ["holidays.ics"]})

    assert verdict.inputs.get("name") == summary
    assert (verdict.answer is GuardAnswer.BLOCK) is (summary is not None)


@pytest.mark.parametrize("content", [None, "not a calendar"])
async def test_a_calendar_that_cannot_be_read_is_unknown(tmp_path: Path, harness: Harness, content: str | None) -> None:
    """A missing or broken calendar may hide a freeze, so a person is asked."""
    pytest.importorskip("recurring_ical_events")
    if content is not None:
        (tmp_path / "holidays.ics").write_text(content)
    harness = Harness(harness.store, harness.clock, ClientSet(folder=tmp_path))

    verdict = await harness.verdict("freeze", {"calendars": ["holidays.ics"]})

    assert (verdict.answer, verdict.reason) == (GuardAnswer.UNKNOWN, "calendar_unreadable")


def event(*lines: str) -> str:
    """Return a calendar with one event."""
    head = ["BEGIN:VCALENDAR", "VERSION:2.0", "BEGIN:VEVENT", "UID:1"]
    return "\r\n".join([*head, *lines, "END:VEVENT", "END:VCALENDAR", ""])


@pytest.mark.parametrize(
    ("lines", "now", "frozen"),
    [
        (("DTSTART;VALUE=DATE:20261224",), "2026-12-24 23:59", True),
        (("DTSTART;VALUE=DATE:20261224",), "2026-12-25 00:00", False),
        (("DTSTART;VALUE=DATE:20261224", "DTEND;VALUE=DATE:20261224"), "2026-12-24 12:00", True),
        (("DTSTART;VALUE=DATE:20261224", "DURATION:P2D"), "2026-12-25 23:59", True),
        (("DTSTART;TZID=Europe/Berlin:20261224T220000", "DURATION:PT4H"), "2026-12-25 01:59", True),
        (("DTSTART:20261224T220000", "DURATION:PT4H"), "2026-12-25 02:00", False),
        (("DTSTART;VALUE=DATE:20260101", "RDATE;VALUE=DATE:20260501"), "2026-05-01 12:00", True),
        (("DTSTART;TZID=Europe/Berlin:20261025T010000", "DTEND;TZID=Europe/Berlin:20261025T023000"), "01:15Z", True),
        (("DTSTART;TZID=Europe/Berlin:20260329T023000", "DTEND;TZID=Europe/Berlin:20260329T024500"), "00:35Z", True),
    ],
)
async def test_unclear_events_freeze_the_longer_time(
    tmp_path: Path, harness: Harness, lines: tuple[str, ...], now: str, frozen: bool
) -> None:
    """Unclear events (no end, a duration, a day that ends on itself, skipped or repeated hours) freeze the longer
    time."""
    pytest.importorskip("recurring_ical_events")
    (tmp_path / "odd.ics").write_text(event(*lines))
    harness = Harness(harness.store, harness.clock, ClientSet(folder=tmp_path))
    instants = {
        "01:15Z": datetime(2026, 10, 25, 1, 15, tzinfo=UTC),
        "00:35Z": datetime(2026, 3, 29, 0, 35, tzinfo=UTC),
    }
    harness.clock.time = instants[now] if now in instants else berlin(now)

    verdict = await harness.verdict("freeze", {"timezone": "Europe/Berlin", "calendars": ["odd.ics"]})

    assert (verdict.answer is GuardAnswer.BLOCK) is frozen, verdict


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (("DTSTART;TZID=Nowhere/Else:20260701T100000", "DURATION:PT1H"), "unknown time zone 'Nowhere/Else'"),
        (("DTEND:20260701T100000Z",), "has no DTSTART"),
        (("DTSTART:tomorrow",), "not an iCalendar file"),
        (("DTSTART:20260701T100000Z", "RRULE:FREQ=SOMETIMES"), "not an iCalendar file"),
    ],
)
async def test_an_event_that_cannot_be_placed_is_unknown(
    tmp_path: Path, harness: Harness, lines: tuple[str, ...], said: str
) -> None:
    """If the time of an event is unknown, the answer is unknown."""
    pytest.importorskip("recurring_ical_events")
    (tmp_path / "odd.ics").write_text(event(*lines))
    harness = Harness(harness.store, harness.clock, ClientSet(folder=tmp_path))

    verdict = await harness.verdict("freeze", {"calendars": ["odd.ics"]})

    assert (verdict.answer, verdict.reason) == (GuardAnswer.UNKNOWN, "calendar_unreadable")
    assert said in verdict.text
