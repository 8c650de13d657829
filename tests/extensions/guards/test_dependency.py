"""The guard ``dependency``: the cause is fixed first, and dependants may settle after an action."""

from __future__ import annotations

import pytest

from remediator.extensions.guards.base import GuardAnswer
from tests.support.guard_history import HOUR, MINUTE, NOON, Harness, alert, row

pytestmark = pytest.mark.promise(12)


async def ask(harness: Harness, settings: object = None, **more: object):  # type: ignore[no-untyped-def]
    return await harness.verdict("dependency", settings, target="app", name="app-errors", **more)


async def test_a_firing_cause_blocks(harness: Harness) -> None:
    """An alert on Redis blocks an action on the app that depends on it, even if no playbook handles that alert."""
    await harness.fires(alert(1, alertname="RedisDown", service="redis", at=NOON - MINUTE))

    assert (await ask(harness)).sentence == "blocked: app depends on redis, where RedisDown fires since 11:59:00Z"


async def test_a_cause_is_known_by_its_run_too(harness: Harness) -> None:
    """An alert without a service label counts for the target of its run."""
    await harness.past(row("run-redis", "redis-down", "redis", "blocked", NOON, incident_open=True))
    await harness.fires(alert(1, alertname="RedisDown", at=NOON), run="run-redis")

    assert (await ask(harness)).reason == "cause_firing"


async def test_a_cause_under_repair_blocks(harness: Harness) -> None:
    """While a run acts on Redis, no action is done on the app."""
    await harness.acted("run-redis", NOON - HOUR, status_="verifying", holds=True)

    verdict = await ask(harness)

    assert verdict.sentence == "blocked: app depends on redis, which run run-redis of redis-down is repairing"


async def test_an_alert_caused_by_an_action_is_only_observed(harness: Harness) -> None:
    """An alert of a dependant within the settle time after an action is only observed; after it, the guard allows."""
    await harness.acted("run-redis", NOON - MINUTE, ended=NOON)

    verdict = await ask(harness)
    harness.clock.time = NOON + MINUTE
    later = await ask(harness)

    assert verdict.sentence == (
        "blocked: app depends on redis, on which run run-redis acted at 11:59:00Z; waiting 2m, until 12:01:00Z"
    )
    assert verdict.until == NOON + MINUTE
    assert later.answer is GuardAnswer.ALLOW


@pytest.mark.parametrize(
    "labels",
    [
        {"alertname": "AppDown", "service": "app"},
        {"alertname": "X", "service": "redis-2"},
        {"alertname": "X", "summary": '"service":"redis"'},
        {"alertname": "X", "note": 'service":"redis'},
    ],
)
async def test_it_allows_when_no_cause_is_in_trouble(harness: Harness, labels: dict[str, str]) -> None:
    """Symptoms, unrelated services, and labels that only look similar are not causes."""
    await harness.fires(alert(1, **labels))

    assert (await ask(harness)).answer is GuardAnswer.ALLOW


async def test_a_resolved_cause_allows(harness: Harness) -> None:
    """If the alert of the cause is resolved, the guard allows."""
    await harness.fires(alert(1, "resolved", alertname="RedisDown", service="redis"))

    assert (await ask(harness)).answer is GuardAnswer.ALLOW


async def test_a_cause_can_be_ignored_in_the_settings(harness: Harness) -> None:
    """The settings of a playbook can exclude a dependency."""
    await harness.fires(alert(1, alertname="RedisDown", service="redis"))

    assert (await ask(harness, {"ignore": ["redis"]})).answer is GuardAnswer.ALLOW


async def test_its_own_alerts_are_no_cause(harness: Harness) -> None:
    """The alerts of the run itself do not block it."""
    own = alert(1, alertname="RedisDown", service="redis")
    await harness.fires(own)

    assert (await ask(harness, alerts=(own,))).answer is GuardAnswer.ALLOW


async def test_it_is_unknown_without_its_store(harness: Harness) -> None:
    """If the store cannot be read, the answer is unknown."""
    await harness.broken("run_episodes")

    assert (await ask(harness)).answer is GuardAnswer.UNKNOWN
