"""Lines of an earlier start, another process or an earlier incident are not evidence of this incident."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from remediator.extensions.log_lines import dated, of_last_start

NOW = datetime(2026, 11, 28, 18, 0, tzinfo=UTC)
EARLIER = [
    "11:C 28 Nov 2026 16:00:00.000 # oO0OoO0OoO0Oo Redis is starting oO0OoO0OoO0Oo",
    "11:M 28 Nov 2026 16:10:00.000 # Write error saving DB on disk: No space left on device",
]
FAILED_START = [
    "12:C 28 Nov 2026 17:59:00.000 # oO0OoO0OoO0Oo Redis is starting oO0OoO0OoO0Oo",
    "12:M 28 Nov 2026 17:59:00.010 # Bad file format reading the append only file appendonly.aof.1.incr.aof",
]


def test_only_the_last_start_counts() -> None:
    """The lines before the last start are returned as those of the earlier instance."""
    log = "\n".join([*EARLIER, *FAILED_START])
    assert of_last_start(log).splitlines() == FAILED_START
    assert of_last_start(log, previous=True).splitlines() == EARLIER
    assert of_last_start("\n".join(EARLIER), previous=True) == ""


def test_lines_of_another_redis_in_the_same_log_are_left_out() -> None:
    """Lines with the process ID of another Redis are skipped; the children of this Redis count."""
    other = "99:M 28 Nov 2026 17:59:01.000 # No space left on device"
    child = "13:C 28 Nov 2026 17:59:02.000 # Failed opening the temp RDB file temp-13.rdb"
    assert of_last_start("\n".join([*FAILED_START, other, child])).splitlines() == [*FAILED_START, child]


@pytest.mark.parametrize(
    "mark",
    [
        "*** FATAL CONFIG FILE ERROR (Redis 7.0.15) ***",
        "7:C 28 Nov 2026 17:59:00.000 * oO0OoO0OoO0Oo Valkey is starting oO0OoO0OoO0Oo",
        "[2026-11-28 17:59:00 +0000] [7] [INFO] Starting gunicorn 23.0.0",
        "INFO:     Started server process [7]",
    ],
)
def test_the_first_line_of_a_process(mark: str) -> None:
    """The first line of Redis, Valkey, gunicorn and uvicorn is found, also if Redis rejects its configuration."""
    assert of_last_start("\n".join([*EARLIER, mark, "more"])).splitlines() == [mark, "more"]


def test_a_log_without_a_first_line_is_returned_as_it_is() -> None:
    """Without a first line, all lines are returned, with their ages if they have times."""
    assert of_last_start("a\nb") == "a\nb"


@pytest.mark.parametrize(
    "line",
    [
        "12:M 28 Nov 2026 17:59:00.010 # text",
        "[2026-11-28 17:59:00 +0000] [7] [ERROR] text",
        '{"event": "text", "timestamp": "2026-11-28T17:59:00.123456Z"}',
        "2026-11-28 17:59:00,123 ERROR text",
        "2026/11/28 17:59:00 [error] 7#7: text",
        "2026-11-28T18:59:00.123456789+01:00 text",
    ],
)
def test_times_of_lines(line: str) -> None:
    """Each known format of times is parsed, also local times. A line without a time has the time of the line before."""
    first, second = dated(f"{line}\n  File 'a.py'", NOW)
    assert first.at is not None and abs(first.at - (NOW - timedelta(minutes=1))) < timedelta(seconds=1)
    assert second.at == first.at


def test_the_time_that_the_platform_added_is_no_part_of_the_line() -> None:
    """The time is removed, so patterns match the beginning of the line."""
    assert [line.text for line in dated("2026-11-28T17:59:00.123456789Z ValueError: no", NOW)] == ["ValueError: no"]


@pytest.mark.parametrize("line", ["text", "2026-13-45 99:99:99 text", "2026-11-28T23:59:00Z from another zone"])
def test_an_unknown_time_is_not_guessed(line: str) -> None:
    """A missing time is unknown, and so is a time in the future."""
    assert dated(line, NOW)[0].at is None
