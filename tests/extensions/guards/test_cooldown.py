"""The guard ``cooldown``: after an action on a target, the next one waits, also if the clock jumps."""

from __future__ import annotations

from datetime import timedelta

import pytest

from remediator.extensions.guards.base import GuardAnswer
from tests.support.guard_history import HOUR, MINUTE, NOON, Harness

pytestmark = pytest.mark.promise(12)


async def test_it_blocks_after_another_run_acted(harness: Harness) -> None:
    """Within the cooldown, the verdict names the other run and the end of the cooldown."""
    await harness.acted("run-1", NOON - 2 * MINUTE, playbook_="other")

    verdict = await harness.verdict("cooldown")

    assert (
        verdict.sentence == "blocked: cooldown 5m for redis since run run-1 at 11:58:00Z; possible again at 12:03:00Z"
    )
    assert verdict.until == NOON + 3 * MINUTE


@pytest.mark.parametrize(("target", "ago"), [("redis", 5 * MINUTE + timedelta(seconds=1)), ("app", MINUTE)])
async def test_it_allows_later_and_elsewhere(harness: Harness, target: str, ago: timedelta) -> None:
    """After the cooldown, or on another target, the guard allows."""
    await harness.acted("run-1", NOON - ago, target=target)

    assert (await harness.verdict("cooldown")).answer is GuardAnswer.ALLOW


async def test_its_own_actions_do_not_hold_a_run(harness: Harness) -> None:
    """The steps of one run do not block each other."""
    await harness.acted("run-1", NOON - MINUTE)

    assert (await harness.verdict("cooldown", run_id="run-1")).answer is GuardAnswer.ALLOW


async def test_a_clock_that_jumps_back_frees_nothing(harness: Harness) -> None:
    """Actions with a time in the future still count."""
    await harness.acted("run-1", NOON)
    harness.clock.time = NOON - HOUR

    assert (await harness.verdict("cooldown")).answer is GuardAnswer.BLOCK


async def test_it_is_unknown_without_its_store(harness: Harness) -> None:
    """If the store cannot be read, the answer is unknown."""
    await harness.broken("attempts")

    assert (await harness.verdict("cooldown")).answer is GuardAnswer.UNKNOWN
