"""The clock of the service never goes back, whatever happens to the clock of the host."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from remediator.core.clock import SteadyClock, SystemClock, parse_moment
from remediator.errors import InputError

pytestmark = [pytest.mark.unit, pytest.mark.promise(14)]
START = datetime(2026, 1, 1, tzinfo=UTC)


class Host:
    """The clock of a host, which the test changes."""

    wall = START
    monotonic = 100.0

    def passes(self, seconds: float) -> None:
        """Let time pass."""
        self.wall += timedelta(seconds=seconds)
        self.monotonic += seconds

    def step(self, seconds: float) -> None:
        """Set the clock to another time."""
        self.wall += timedelta(seconds=seconds)


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Host:
    made = Host()
    monkeypatch.setattr(SystemClock, "now", lambda clock: made.wall)
    return made


def test_it_is_the_clock_of_the_host_and_follows_a_step_forward(host: Host) -> None:
    """The clock shows the time of the host, also after the host's clock was set forward."""
    clock = SteadyClock(lambda: host.monotonic)
    host.passes(10)
    assert clock.now() == START + timedelta(seconds=10)
    host.step(3600)
    assert clock.now() == host.wall
    assert not clock.problem()


def test_after_a_step_back_it_continues_until_the_host_has_caught_up(host: Host) -> None:
    """After the host's clock was set back, the clock advances slowly until both agree, and reports the problem."""
    clock = SteadyClock(lambda: host.monotonic)
    host.step(-60)
    assert clock.now() == START
    host.passes(10)
    assert clock.now() == START + timedelta(seconds=9)
    assert clock.problem().startswith("it was set back by less than a minute")
    host.passes(600)
    assert clock.now() == host.wall
    assert not clock.problem()


def test_it_continues_from_the_last_entry_of_the_earlier_process(host: Host) -> None:
    """The clock starts at the time of the last audit entry if this is later than the time of the host."""
    clock = SteadyClock(lambda: host.monotonic)
    clock.continue_from(None)
    clock.continue_from(START + timedelta(hours=1))
    assert clock.now() == START + timedelta(hours=1)
    clock.continue_from(START)
    assert clock.now() == START + timedelta(hours=1)


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2h", "2026-01-31T06:00:00+00:00"),
        ("2026-01-31", "2026-01-31T00:00:00+00:00"),
        ("2026-01-31T08:00Z", "2026-01-31T08:00:00+00:00"),
        ("2026-01-31t09:30:00.5+01:30", "2026-01-31T08:00:00.500000+00:00"),
        ("0001-01-01T00:00:00+01:00", "0001-01-01T00:00:00+00:00"),
        ("9999-12-31T23:59:59-01:00", "9999-12-31T23:59:59.999999+00:00"),
    ],
)
def test_a_moment_is_a_time_or_a_duration_before_now(text: str, instant: str) -> None:
    """A time without an offset is in UTC. A time that is no instant in UTC is the first or the last one."""
    assert parse_moment(text, datetime(2026, 1, 31, 8, tzinfo=UTC)).isoformat() == instant


@pytest.mark.parametrize("text", ["", "soon", "9999y", "3\uff48", "2026-02-30", "12"])
def test_another_text_is_no_moment(text: str) -> None:
    """The error is one sentence."""
    with pytest.raises(InputError, match=r"expected a time|reaches back before year 1"):
        parse_moment(text, datetime(2026, 1, 31, 8, tzinfo=UTC))
