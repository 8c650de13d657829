"""Budgets: several windows at once, per target, per playbook and in all."""

from __future__ import annotations

from datetime import timedelta

import pytest

from remediator.extensions.guards.base import GuardAnswer
from tests.support.guard_history import HOUR, MINUTE, NOON, House

pytestmark = pytest.mark.promise(12)


async def test_it_blocks_the_fourth_in_an_hour(house: House) -> None:
    """Used up: which window, by which runs, and when it is free again."""
    for number, minutes in enumerate((40, 30, 19)):
        await house.acted(f"run-{number}", NOON - minutes * MINUTE)

    verdict = await house.verdict("rate_limit")

    assert verdict.sentence == (
        "blocked: rate_limit 3/1h for redis used by runs run-2, run-1, run-0; next free 12:20:00Z"
    )
    assert verdict.until == NOON + 20 * MINUTE
    assert verdict.inputs["used"] == 3


async def test_it_allows_the_third(house: House) -> None:
    """Two in an hour leave one."""
    for number in range(2):
        await house.acted(f"run-{number}", NOON - (number + 1) * MINUTE)

    assert (await house.verdict("rate_limit")).answer is GuardAnswer.ALLOW


async def test_windows_hold_at_once(house: House) -> None:
    """Seven a day are used though the last hour is free; the text gives the day when it is free."""
    for number in range(7):
        await house.acted(f"run-{number}", NOON - timedelta(hours=2 + 3 * number))

    verdict = await house.verdict("rate_limit")

    assert verdict.inputs["window"] == "7/1d"
    assert verdict.text.endswith("and 2 more; next free 16:00:00Z")


@pytest.mark.parametrize(
    ("settings", "other", "scope"),
    [
        ({"playbook": ["2/1h"]}, {"target": "app"}, "playbook redis-down"),
        ({"global": ["2/1h"]}, {"target": "app", "playbook_": "app-down"}, "all playbooks"),
    ],
)
async def test_scopes(house: House, settings: dict[str, list[str]], other: dict[str, str], scope: str) -> None:
    """Other targets use up the playbook's budget, other playbooks the budget of everything."""
    for number in range(2):
        await house.acted(f"run-{number}", NOON - (number + 1) * MINUTE, **other)

    verdict = await house.verdict("rate_limit", settings)

    assert verdict.inputs["scope"] == scope


async def test_a_clock_that_jumps_back_overdraws_nothing(house: House) -> None:
    """Runs of what is now the future count."""
    for number in range(3):
        await house.acted(f"run-{number}", NOON + number * MINUTE)
    house.clock.time = NOON - HOUR

    assert (await house.verdict("rate_limit")).answer is GuardAnswer.BLOCK


@pytest.mark.parametrize("wrong", ["3", "0/1h", "3/1x", "3/0s", "-1/1h"])
async def test_a_window_that_makes_no_sense_is_unknown(house: House, wrong: str) -> None:
    """Settings that slipped through never mean *unlimited*."""
    with pytest.raises(ValueError, match=r"3/1h|no time|duration"):
        await house.verdict("rate_limit", [wrong])


async def test_it_cannot_tell_without_its_store(house: House) -> None:
    """Unreadable means that nothing is done."""
    await house.broken("attempts")

    assert (await house.verdict("rate_limit")).answer is GuardAnswer.UNKNOWN
