"""Minimum healthy: what still works is worth more than what might be mended."""

from __future__ import annotations

import pytest

from remediator.errors import Unreachable
from remediator.extensions.guards.base import GuardAnswer
from remediator.extensions.platforms.base import State
from tests.support.guard_history import House, status

pytestmark = pytest.mark.promise(12)


async def test_it_blocks_below_the_minimum(house: House) -> None:
    """One of three runs, two must: nothing is touched."""
    house.platform.services["redis"] = status(1, 3, State.MIXED)

    verdict = await house.verdict("min_healthy", {"minimum": 2})

    assert verdict.sentence == (
        "blocked: at least 2 instances of redis must stay healthy: 1 of 3 are, 1 would be left during the action"
    )


@pytest.mark.parametrize(
    ("healthy", "instances", "minimum", "answer"),
    [
        (2, 3, 2, GuardAnswer.ALLOW),
        (3, 3, 2, GuardAnswer.ALLOW),
        (3, 3, 3, GuardAnswer.BLOCK),
        (1, 1, 1, GuardAnswer.BLOCK),
        (0, 1, 1, GuardAnswer.BLOCK),
        (0, 1, 0, GuardAnswer.ALLOW),
    ],
)
async def test_an_action_takes_a_healthy_one_where_all_are(
    house: House, healthy: int, instances: int, minimum: int, answer: GuardAnswer
) -> None:
    """Where all are healthy one of them will be taken; where one is not, that one is."""
    house.platform.services["redis"] = status(healthy, instances)

    assert (await house.verdict("min_healthy", {"minimum": minimum})).answer is answer


async def test_it_allows_without_a_minimum(house: House) -> None:
    """Nothing is written in the inventory or the playbook: the platform is not even asked."""
    assert (await house.verdict("min_healthy")).answer is GuardAnswer.ALLOW


@pytest.mark.parametrize("seen", [Unreachable("supervisord does not answer"), status(0, 0, State.UNKNOWN)])
async def test_a_silent_platform_is_unknown(house: House, seen: object) -> None:
    """How many are healthy cannot be told: a person is asked."""
    house.platform.services["redis"] = seen  # type: ignore[assignment]

    verdict = await house.verdict("min_healthy", {"minimum": 1})

    assert (verdict.answer, verdict.reason) == (GuardAnswer.UNKNOWN, "platform_silent")
