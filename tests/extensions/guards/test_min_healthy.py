"""The guard ``min_healthy``: an action must leave a minimum of healthy instances."""

from __future__ import annotations

import pytest

from remediator.errors import Unreachable
from remediator.extensions.guards.base import GuardAnswer
from remediator.extensions.platforms.base import State
from tests.support.guard_history import Harness, status

pytestmark = pytest.mark.promise(12)


async def test_it_blocks_below_the_minimum(harness: Harness) -> None:
    """One of three instances is healthy and two are required: the guard blocks."""
    harness.platform.services["redis"] = status(1, 3, State.MIXED)

    verdict = await harness.verdict("min_healthy", {"minimum": 2})

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
async def test_an_action_counts_a_healthy_instance_if_all_are_healthy(
    harness: Harness, healthy: int, instances: int, minimum: int, answer: GuardAnswer
) -> None:
    """If all instances are healthy, the action takes a healthy one; otherwise it takes an unhealthy one."""
    harness.platform.services["redis"] = status(healthy, instances)

    assert (await harness.verdict("min_healthy", {"minimum": minimum})).answer is answer


async def test_it_allows_without_a_minimum(harness: Harness) -> None:
    """Without a minimum in the inventory or the playbook, the platform is not queried."""
    assert (await harness.verdict("min_healthy")).answer is GuardAnswer.ALLOW


@pytest.mark.parametrize("seen", [Unreachable("supervisord does not answer"), status(0, 0, State.UNKNOWN)])
async def test_a_platform_that_does_not_answer_is_unknown(harness: Harness, seen: object) -> None:
    """If the platform does not answer, the number of healthy instances is unknown, and so is the answer."""
    harness.platform.services["redis"] = seen  # type: ignore[assignment]

    verdict = await harness.verdict("min_healthy", {"minimum": 1})

    assert (verdict.answer, verdict.reason) == (GuardAnswer.UNKNOWN, "platform_silent")
