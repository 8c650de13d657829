"""Incidents: runs that belong together, alerts caused by an action, and relapses, in the production engine."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import update

from remediator.core.run import EpisodeStatus, Run, Status
from remediator.core.tokens import Keyring
from remediator.extensions.notifiers.base import Message
from remediator.extensions.notifiers.log import LogNotifier
from remediator.pipeline.context import PipelineContext
from remediator.pipeline.escalation import escalate_due
from remediator.pipeline.incident import incident_for
from remediator.pipeline.recurrence import check_recurrence, on_new_run
from remediator.playbooks.model import Playbook
from remediator.reporting.incidents import load_incident
from remediator.reporting.messages import MessageRenderer
from remediator.storage.repositories import episodes, incidents, outbox, runs
from remediator.storage.repositories.outbox import OutboxMessage
from remediator.storage.schema import runs as table
from tests.support.fleet import Health, advance_until, context, remedy
from tests.support.guard_history import MINUTE, Harness, alert, playbook

DIAGNOSIS = playbook(
    "app-down",
    "app",
    steps=[],
    diagnose=[],
    conclude=[{"id": "dependency", "when": "true", "cause": "Redis does not answer the app."}],
    escalate={"to": ["oncall"]},
)
"""A playbook that only diagnoses and then escalates."""


async def fires(engine: PipelineContext, chosen: Playbook, target: str, number: int, **labels: str) -> Run:
    """Create the run of an alert, as the match stage does."""

    def work(tx: Any) -> Run:
        incident_id = incident_for(tx, engine.playbooks.inventory, engine.timeouts.incident_window, target)
        name, content = chosen.name, chosen.content_hash
        run = runs.create(tx, f"run-{number}", name, content, target, "auto", "test", incident_id)
        on_new_run(tx, engine, run)
        item = alert(number, at=tx.now, service=target, **labels)
        episodes.insert_all(tx, [item])
        runs.add_episodes(tx, run.id, [item])
        return run

    return await engine.store.write(work)


async def sent(harness: Harness) -> list[OutboxMessage]:
    """Return all messages, oldest first, and mark them as sent to their channels."""

    def work(tx: Any) -> list[OutboxMessage]:
        found = outbox.list_due(tx.connection, tx.now, limit=100)
        for item in found:
            outbox.mark_sent(tx, item.id, {"ts": item.id}, item.channel)
        return found

    return await harness.store.write(work)


def render(harness: Harness, queued: OutboxMessage) -> Any:
    """Return the text of a message as it would be sent now."""
    renderer = MessageRenderer(Keyring((b"k" * 32,)), "https://r.example")
    return harness.store.read(
        lambda connection: renderer.render(connection, queued, LogNotifier({}), "oncall", harness.clock.now())
    )


@pytest.mark.parametrize(
    ("first", "second", "after", "same"),
    [
        ("redis", "app", timedelta(minutes=2), True),
        ("app", "redis", timedelta(minutes=2), True),
        ("redis", "redis", timedelta(minutes=2), True),
        ("redis", "shop", timedelta(minutes=2), False),
        ("redis", "app", timedelta(minutes=40), False),
    ],
    ids=["it depends on it", "it is needed by it", "same target", "unrelated", "much later"],
)
async def test_runs_that_belong_together_are_one_incident(
    harness: Harness, first: str, second: str, after: timedelta, same: bool
) -> None:
    """Runs on the same target or its dependencies, within minutes, are one incident, whichever replica creates the
    run."""
    one = context(harness.store, harness.clock, [DIAGNOSIS], Health(), "a")
    two = context(harness.store, harness.clock, [DIAGNOSIS], Health(), "b")
    run = await fires(one, playbook("x"), first, 1)
    harness.clock.time += after
    other = await fires(two, playbook("y"), second, 2)
    assert (run.incident_id == other.incident_id) is same


async def test_a_run_that_belongs_to_two_incidents_makes_them_one(harness: Harness) -> None:
    """Two unrelated services fail, then their common dependency: the older incident has all three runs."""
    engine = context(harness.store, harness.clock, [DIAGNOSIS], Health(), "a")
    inventory = engine.playbooks.inventory
    needing = [name for name in inventory.services if "redis" in inventory.services[name].depends_on]
    assert needing == ["app"], "the inventory of these tests"
    first = await fires(engine, playbook("x"), "app", 1)
    separate = await harness.write(
        lambda tx: runs.create(tx, "run-2", "y", "0" * 64, "redis", "auto", "test", "incident-2")
    )
    assert separate.incident_id != first.incident_id
    third = await fires(engine, playbook("z"), "redis", 3)
    ids = {run.id for run in await harness.store.read(lambda c: incidents.list_runs(c, third.incident_id))}
    assert ids == {"run-1", "run-2", "run-3"} and third.incident_id == first.incident_id


@pytest.mark.promise(13)
async def test_one_message_changes_and_the_better_cause_replaces_the_earlier(harness: Harness) -> None:
    """Two runs diagnose the same incident: the second escalation updates the first message, and only the better cause
    is left."""
    later = playbook(
        "app-crash-loop",
        "app",
        steps=[],
        conclude=[{"id": "variable", "when": "true", "cause": "The variable DATABASE_URL is missing."}],
    )
    engine = context(harness.store, harness.clock, [DIAGNOSIS, later], Health(), "a")
    await fires(engine, DIAGNOSIS, "app", 1, severity="warning")
    await advance_until(engine, ["escalated"], harness.clock)
    [message] = await sent(harness)
    assert message.kind == "escalation"
    harness.clock.time += timedelta(seconds=14)
    await fires(engine, later, "app", 2, severity="critical")
    await advance_until(engine, ["escalated"], harness.clock)

    updates = await sent(harness)
    assert {item.kind for item in updates} == {"update"} and {item.content["of"] for item in updates} == {message.id}
    changed: Message = await render(harness, next(item for item in updates if item.content.get("about")))
    text = "\n".join(changed.text())
    assert "DATABASE_URL" in text and "Redis does not answer" not in text
    assert "Same incident" in text and "app-down on app" in text
    assert changed.announce and changed.severity == "critical" and not changed.over
    assert changed.incident == (await render(harness, message)).incident


@pytest.mark.promise(13)
async def test_an_escalation_without_a_step_says_that_nothing_was_tried(harness: Harness) -> None:
    """If a playbook has no step, the escalation says that nothing was tried, and why a person is needed."""
    engine = context(harness.store, harness.clock, [DIAGNOSIS], Health(), "a")
    await fires(engine, DIAGNOSIS, "app", 1)
    await advance_until(engine, ["escalated"], harness.clock)
    [message] = await sent(harness)
    text = "\n".join((await render(harness, message)).text())
    assert "Nothing was tried" in text and "diagnosed; the playbook has no step for this" in text
    assert "Tried:" not in text


@pytest.mark.promise(13)
async def test_a_remedy_for_another_cause_is_not_called_missing(harness: Harness) -> None:
    """The only step is for another cause: the message says that no step fits, and suggests no remedy and no new run."""
    cause = {"id": "stopped", "when": "false", "cause": "It does not run."}
    steps = [{"id": "fix", "action": "test.fix", "for": "stopped", "when": "false", "on_failure": "escalate"}]
    chosen = playbook("redis-down", "redis", conclude=[cause], steps=steps, verify={"checks": [{"check": "test.well"}]})
    engine = context(harness.store, harness.clock, [chosen], Health(), "a")
    await fires(engine, chosen, "redis", 1)
    await advance_until(engine, ["escalated"], harness.clock)
    [message] = await sent(harness)
    text = "\n".join((await render(harness, message)).text())
    assert "no step fits the evidence: the evidence points to no known cause" in text
    assert "no remedy" not in text and "Proposed:" not in text and "start a new run" not in text


@pytest.mark.parametrize("waited", [False, True], ids=["it acted", "it waited for the end of the fault"])
async def test_an_alert_caused_by_the_repair_pages_no_person(harness: Harness, waited: bool) -> None:
    """While Redis is restarted, the alert of the app fires and resolves: no message is sent, and the incident has a
    note."""
    chosen = remedy("fix", {})
    health = Health()
    engine = context(harness.store, harness.clock, [chosen, DIAGNOSIS], health, "a")
    await fires(engine, chosen, "redis", 1)
    await advance_until(engine, ["succeeded"], harness.clock)
    if waited:
        await harness.write(lambda tx: tx.connection.execute(update(table).values(first_action_at=None)))
    harness.clock.time += timedelta(seconds=5)
    await fires(engine, DIAGNOSIS, "app", 2)
    await advance_until(engine, ["escalated"], harness.clock)
    assert await sent(harness) == [], "it waits until the repair has settled"
    harness.clock.time += timedelta(seconds=10)
    await resolve(harness, "episode-2")
    harness.clock.time += timedelta(seconds=60)

    assert await escalate_due(engine) == 1
    assert await sent(harness) == []
    found = await harness.store.read(lambda c: load_incident(c, "incident-1"))
    assert found is not None and [item.text for item in found.notes] == [
        "RedisDown on app began while another run of the incident was under way, and was over when that had settled"
    ]


async def test_an_alert_that_fires_after_the_repair_is_reported(harness: Harness) -> None:
    """If the alert still fires after the settle time, people are notified once."""
    chosen = remedy("fix", {})
    engine = context(harness.store, harness.clock, [chosen, DIAGNOSIS], Health(), "a")
    await fires(engine, chosen, "redis", 1)
    await advance_until(engine, ["succeeded"], harness.clock)
    harness.clock.time += timedelta(seconds=5)
    await fires(engine, DIAGNOSIS, "app", 2)
    await advance_until(engine, ["escalated"], harness.clock)
    harness.clock.time += timedelta(seconds=60)

    assert await escalate_due(engine) == 1
    assert [item.kind for item in await sent(harness)] == ["escalation"]
    assert await escalate_due(engine) == 0


@pytest.mark.promise(7)
async def test_a_relapse_is_reported_at_once_for_its_run(harness: Harness) -> None:
    """If the checks fail 20 s after the success, people are notified then, not at the end of the watch time."""
    chosen = remedy("fix", {})
    health = Health()
    engine = context(harness.store, harness.clock, [chosen], health, "a")
    await fires(engine, chosen, "web-1", 1)
    await advance_until(engine, ["succeeded"], harness.clock)
    harness.clock.time += timedelta(seconds=11)
    await check_recurrence(engine)
    assert await sent(harness) == [], "it is healthy"
    health.well.clear()
    harness.clock.time += timedelta(seconds=11)

    await check_recurrence(engine)
    await check_recurrence(context(harness.store, harness.clock, [chosen], health, "b"))
    [message] = await sent(harness)
    text = "\n".join((await render(harness, message)).text())
    assert message.run_id == "run-1" and message.content["reason"] == "relapsed"
    assert "relapse: it was healed, and its checks fail again" in text and "test.well: not well" in text
    assert "Tried: fix: fix web-1: ok" in text


@pytest.mark.promise(7)
async def test_a_new_run_for_the_same_fault_is_a_relapse_of_the_one_before(harness: Harness) -> None:
    """If the fault returns ten minutes after the success in a new episode, the incident is the same, and the message
    says so."""
    chosen = remedy("fix", {})
    engine = context(harness.store, harness.clock, [chosen], Health(), "a")
    await fires(engine, chosen, "web-1", 1)
    await advance_until(engine, ["succeeded"], harness.clock)
    harness.clock.time += 10 * MINUTE
    await resolve(harness, "episode-1")
    await harness.write(lambda tx: runs.close_incident(tx, ["run-1"]))
    again = await fires(engine, chosen, "web-1", 2)

    [message] = await sent(harness)
    assert message.run_id == "run-1" and message.content["reason"] == "came_back"
    assert "the fault is back 10m after it was healed; run run-2 is for it" in str(message.content)
    assert again.incident_id == "incident-1" and again.status is Status.MATCHED


async def resolve(harness: Harness, episode_id: str) -> None:
    """Resolve an alert."""

    def work(tx: Any) -> None:
        item = episodes.get(tx.connection, episode_id)
        assert item is not None
        over = replace(item, status=EpisodeStatus.CLOSED, resolved_at=tx.now)
        episodes.update_all(tx, [over])

    await harness.write(work)
