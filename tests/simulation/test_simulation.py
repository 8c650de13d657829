"""Two ranges of simulated schedules; ``make simulate`` runs more of them."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support.servers.remediator import ROOT

SHORT = 30
LONG = 150


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command as a user does."""
    argv = [sys.executable, "-m", "tests.simulation", *arguments]
    return subprocess.run(argv, capture_output=True, text=True, cwd=ROOT, timeout=1800, check=False)


@pytest.mark.timeout(1800)
@pytest.mark.promise(1)
@pytest.mark.promise(2)
@pytest.mark.promise(3)
@pytest.mark.promise(4)
@pytest.mark.parametrize(
    ("first", "last"), [(1, SHORT), pytest.param(SHORT + 1, LONG, marks=pytest.mark.long)], ids=["short", "long"]
)
def test_no_simulated_schedule_breaks_a_promise(first: int, last: int) -> None:
    """With crashes, pauses, lost answers, lost and repeated notifications, and clock jumps, every promise holds."""
    done = run(f"{first}..{last}")
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert f"{last - first + 1} schedules" in done.stdout and "0 broken" in done.stdout


@pytest.mark.long
@pytest.mark.promise(1)
@pytest.mark.promise(4)
@pytest.mark.parametrize(
    "seed",
    [
        pytest.param(218, id="a process without its lease stumbled over its successor's request"),
        pytest.param(1545, id="the clock was put right while a notification was folded: four hours of sleep"),
        pytest.param(2305, id="the same, with alerts that had no episode"),
    ],
)
def test_schedules_that_once_broke_a_promise_pass(seed: int) -> None:
    """Schedules outside of the range that once broke a promise still pass."""
    done = run(str(seed))
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


def test_a_seed_replays_exactly() -> None:
    """The same seed gives the same trace to the last line, so a failure can be repeated."""
    first, second = run("7", "--trace"), run("7", "--trace")
    assert first.stdout.splitlines()[:-1] == second.stdout.splitlines()[:-1]
    assert len(first.stdout.splitlines()) > 10
