"""The guard ``storm``: many alerts, or alerts of most instances of a service, stop all actions until a person has
checked the cause."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from remediator.errors import Unreachable
from remediator.extensions.guards.base import GuardAnswer
from remediator.runtime.monitors import FloodSettings, MonitorSettings, run_monitors
from remediator.storage.repositories import outbox
from tests.support.guard_history import MINUTE, NOON, Harness, alert, status

pytestmark = pytest.mark.promise(12)
TEN = {"alerts": 10}


async def flood(harness: Harness, count: int, over: timedelta) -> None:
    await harness.fires(*(alert(number, at=NOON - over + over * number / max(count - 1, 1)) for number in range(count)))


async def test_it_blocks_in_a_storm(harness: Harness) -> None:
    """Ten new alerts within a minute are a storm, not ten faults: the guard blocks."""
    await flood(harness, 10, MINUTE)

    verdict = await harness.verdict("storm", TEN)

    assert verdict.sentence == (
        "blocked: alert storm at 12:00:00Z: at least 10 new alerts in 1m; no action before 12:05:00Z"
    )


async def test_it_blocks_for_a_while_after_it(harness: Harness) -> None:
    """The guard blocks for some time after the storm, because alerts of a common cause resolve one by one."""
    await flood(harness, 10, MINUTE)
    harness.clock.time = NOON + 3 * MINUTE

    verdict = await harness.verdict("storm", TEN)

    assert verdict.reason == "after_storm"
    assert verdict.until == NOON + 5 * MINUTE
    harness.clock.time = NOON + 5 * MINUTE
    assert (await harness.verdict("storm", TEN)).answer is GuardAnswer.ALLOW


@pytest.mark.parametrize(("count", "over"), [(9, MINUTE), (10, 2 * MINUTE), (100, 100 * MINUTE)])
async def test_it_allows_slowly_arriving_alerts(harness: Harness, count: int, over: timedelta) -> None:
    """The same number of alerts in more time, or fewer alerts, are not a storm."""
    await flood(harness, count, over)

    assert (await harness.verdict("storm", TEN)).answer is GuardAnswer.ALLOW


@pytest.mark.parametrize(
    ("alerting", "instances", "answer"),
    [(3, 4, GuardAnswer.BLOCK), (3, 6, GuardAnswer.ALLOW), (2, 2, GuardAnswer.ALLOW)],
)
async def test_alerts_of_most_instances_block_the_action(
    harness: Harness, alerting: int, instances: int, answer: GuardAnswer
) -> None:
    """If more than half of the instances of a service alert, the cause is elsewhere; a service of two instances is
    exempt."""
    harness.platform.services["redis"] = status(instances - alerting, instances)
    alerts = tuple(alert(number, instance=str(number)) for number in range(alerting))

    verdict = await harness.verdict("storm", alerts=alerts)

    assert verdict.answer is answer
    if answer is GuardAnswer.BLOCK:
        assert verdict.sentence == ("blocked: 3 of 4 instances of redis alert, more than 50%: a shared cause is likely")


async def test_a_platform_that_does_not_answer_is_unknown(harness: Harness) -> None:
    """If three instances alert and the number of all instances is unknown, the answer is unknown."""
    harness.platform.services["redis"] = Unreachable("no answer")

    verdict = await harness.verdict("storm", alerts=tuple(alert(number, instance=str(number)) for number in range(3)))

    assert (verdict.answer, verdict.reason) == (GuardAnswer.UNKNOWN, "platform_silent")


async def test_people_are_notified_once_of_a_storm_and_once_of_its_end(harness: Harness, tmp_path: Path) -> None:
    """Thousands of runs may be blocked: there is one notice at the start of the storm, and one at its end."""
    watching = MonitorSettings(tmp_path, None, ("oncall",), FloodSettings(10, MINUTE, 5 * MINUTE))
    await flood(harness, 30, MINUTE)
    for minutes in (0, 1, 2, 6, 7):
        harness.clock.time = NOON + minutes * MINUTE
        await run_monitors(harness.context, watching)

    told = await harness.store.read(lambda connection: outbox.list_due(connection, harness.clock.now()))

    assert [item.content["text"].split(":")[0] for item in told] == ["Alert storm", "Alert storm over"]
