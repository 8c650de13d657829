"""Cooldown: after an action on a target it is left alone for a while, whatever clocks do."""

from __future__ import annotations

from datetime import timedelta

import pytest

from remediator.extensions.guards.base import GuardAnswer
from tests.support.guard_history import HOUR, MINUTE, NOON, House

pytestmark = pytest.mark.promise(12)


async def test_it_blocks_after_another_run_acted(house: House) -> None:
    """Within the period it names the run, and when it is free again."""
    await house.acted("run-1", NOON - 2 * MINUTE, playbook_="other")

    verdict = await house.verdict("cooldown")

    assert verdict.sentence == "blocked: cooldown 5m for redis since run run-1 at 11:58:00Z; next free 12:03:00Z"
    assert verdict.until == NOON + 3 * MINUTE


@pytest.mark.parametrize(("target", "ago"), [("redis", 5 * MINUTE + timedelta(seconds=1)), ("app", MINUTE)])
async def test_it_allows_later_and_elsewhere(house: House, target: str, ago: timedelta) -> None:
    """The period is over, or it was another target."""
    await house.acted("run-1", NOON - ago, target=target)

    assert (await house.verdict("cooldown")).answer is GuardAnswer.ALLOW


async def test_its_own_actions_do_not_hold_a_run(house: House) -> None:
    """A remedy of several steps is one remedy."""
    await house.acted("run-1", NOON - MINUTE)

    assert (await house.verdict("cooldown", run_id="run-1")).answer is GuardAnswer.ALLOW


async def test_a_clock_that_jumps_back_frees_nothing(house: House) -> None:
    """What was done in what is now the future still counts."""
    await house.acted("run-1", NOON)
    house.clock.time = NOON - HOUR

    assert (await house.verdict("cooldown")).answer is GuardAnswer.BLOCK


async def test_it_cannot_tell_without_its_store(house: House) -> None:
    """Unreadable means that nothing is done."""
    await house.broken("attempts")

    assert (await house.verdict("cooldown")).answer is GuardAnswer.UNKNOWN
