"""The guard ``rate_limit``: several windows at once, per target, per playbook and in total."""

from __future__ import annotations

from datetime import timedelta

import pytest

from remediator.extensions.guards.base import GuardAnswer
from tests.support.guard_history import HOUR, MINUTE, NOON, Harness

pytestmark = pytest.mark.promise(12)


async def test_it_blocks_the_fourth_in_an_hour(harness: Harness) -> None:
    """The verdict names the window, the runs that count in it, and the time when the next run is possible."""
    for number, minutes in enumerate((40, 30, 19)):
        await harness.acted(f"run-{number}", NOON - minutes * MINUTE)

    verdict = await harness.verdict("rate_limit")

    assert verdict.sentence == (
        "blocked: rate_limit 3/1h for redis used by runs run-2, run-1, run-0; possible again at 12:20:00Z"
    )
    assert verdict.until == NOON + 20 * MINUTE
    assert verdict.inputs["used"] == 3


async def test_it_allows_the_third(harness: Harness) -> None:
    """With two of three actions in the last hour, the guard allows."""
    for number in range(2):
        await harness.acted(f"run-{number}", NOON - (number + 1) * MINUTE)

    assert (await harness.verdict("rate_limit")).answer is GuardAnswer.ALLOW


async def test_every_window_limits_the_runs(harness: Harness) -> None:
    """If the daily limit is reached and the hourly limit is not, the guard blocks and names the time at which the
    next run may act."""
    for number in range(7):
        await harness.acted(f"run-{number}", NOON - timedelta(hours=2 + 3 * number))

    verdict = await harness.verdict("rate_limit")

    assert verdict.inputs["window"] == "7/1d"
    assert verdict.text.endswith("and 2 more; possible again at 16:00:00Z")


@pytest.mark.parametrize(
    ("settings", "other", "scope"),
    [
        ({"playbook": ["2/1h"]}, {"target": "app"}, "playbook redis-down"),
        ({"global": ["2/1h"]}, {"target": "app", "playbook_": "app-down"}, "all playbooks"),
    ],
)
async def test_each_scope_counts_its_own_runs(
    harness: Harness, settings: dict[str, list[str]], other: dict[str, str], scope: str
) -> None:
    """Actions on other targets count for the playbook, and actions of other playbooks count in total."""
    for number in range(2):
        await harness.acted(f"run-{number}", NOON - (number + 1) * MINUTE, **other)

    verdict = await harness.verdict("rate_limit", settings)

    assert verdict.inputs["scope"] == scope


async def test_a_clock_that_jumps_back_exceeds_no_limit(harness: Harness) -> None:
    """Runs with a time in the future count."""
    for number in range(3):
        await harness.acted(f"run-{number}", NOON + number * MINUTE)
    harness.clock.time = NOON - HOUR

    assert (await harness.verdict("rate_limit")).answer is GuardAnswer.BLOCK


@pytest.mark.parametrize("wrong", ["3", "0/1h", "3/1x", "3/0s", "-1/1h"])
async def test_a_window_that_makes_no_sense_is_unknown(harness: Harness, wrong: str) -> None:
    """An invalid limit in stored settings never means *unlimited*: the answer is unknown."""
    with pytest.raises(ValueError, match=r"3/1h|no time|duration"):
        await harness.verdict("rate_limit", [wrong])


async def test_it_is_unknown_without_its_store(harness: Harness) -> None:
    """If the store cannot be read, the answer is unknown."""
    await harness.broken("attempts")

    assert (await harness.verdict("rate_limit")).answer is GuardAnswer.UNKNOWN
