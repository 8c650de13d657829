"""A blocked run is reported once for each guard, by the production engine."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, cast

import pytest

from remediator.clients.alertmanager.client import Alertmanager, FiringAlert, Suppression
from remediator.core.run import Run
from remediator.core.tokens import Keyring
from remediator.extensions.clientset import ClientSet
from remediator.extensions.guards.still_firing import StillFiring
from remediator.extensions.notifiers.log import LogNotifier
from remediator.pipeline.context import PipelineContext
from remediator.playbooks.model import Playbook
from remediator.reporting.messages import MessageRenderer
from remediator.storage.repositories import episodes, outbox, runs, stops
from remediator.storage.repositories.outbox import OutboxMessage
from tests.support.fleet import Health, advance_until, context, remedy
from tests.support.guard_history import NOON, Harness, alert

FROZEN = {"freeze": {"windows": [{"from": "tue 00:00", "to": "thu 12:00"}]}}
"""A weekly window that covers NOON, a Wednesday, and ends a day later."""


async def fires(engine: PipelineContext, chosen: Playbook, mode: str = "auto", **labels: str) -> None:
    """Create a run for one alert about web-1."""

    def work(tx: Any) -> None:
        run = runs.create(tx, "run-1", chosen.name, chosen.content_hash, "web-1", mode, "test")
        item = alert(1, at=tx.now, service="web-1", **labels)
        episodes.insert_all(tx, [item])
        runs.add_episodes(tx, run.id, [item])

    await engine.store.write(work)


async def notices(harness: Harness) -> list[OutboxMessage]:
    """Return the notices about the run."""
    found = await harness.store.read(lambda connection: outbox.list_for_run(connection, "run-1"))
    return [item for item in found if item.kind == "held_back"]


async def later(engine: PipelineContext, harness: Harness, span: timedelta) -> Run:
    """Advance the run to a later time, in steps of ten seconds."""
    end = harness.clock.time + span
    while harness.clock.time < end:
        harness.clock.time += timedelta(seconds=10)
        run = await advance_until(engine, ["blocked", "succeeded", "awaiting_approval"])
    return run


async def test_a_critical_alert_is_reported_at_once(harness: Harness) -> None:
    """The notice has the guard, the reason and the end of the freeze, and is written in the same transaction as the
    state."""
    chosen = remedy("fix", FROZEN)
    engine = context(harness.store, harness.clock, [chosen], Health(), "a")
    await fires(engine, chosen, severity="critical")

    await advance_until(engine, ["blocked"])

    [notice] = await notices(harness)
    assert notice.channel == "oncall"
    assert (notice.content["guard"], notice.content["reason"]) == ("freeze", "frozen")
    assert notice.content["until"] == "2026-03-05T12:00:00.000000Z"


async def test_other_alerts_are_reported_after_two_minutes_and_once(harness: Harness) -> None:
    """In the first two minutes there is no notice; then there is one, and no other in the next ten minutes."""
    chosen = remedy("fix", FROZEN)
    engine = context(harness.store, harness.clock, [chosen], Health(), "a")
    await fires(engine, chosen, severity="warning")
    await advance_until(engine, ["blocked"])

    await later(engine, harness, timedelta(seconds=110))
    assert await notices(harness) == []
    await later(engine, harness, timedelta(seconds=20))
    assert len(await notices(harness)) == 1
    await later(engine, harness, timedelta(minutes=10))
    assert len(await notices(harness)) == 1


async def test_another_replica_after_a_restart_does_not_repeat_it(harness: Harness) -> None:
    """The store has the record, so a new process does not send the notice again."""
    chosen = remedy("fix", FROZEN)
    first = context(harness.store, harness.clock, [chosen], Health(), "a")
    await fires(first, chosen, severity="critical")
    await advance_until(first, ["blocked"])

    await later(context(harness.store, harness.clock, [chosen], Health(), "b"), harness, timedelta(minutes=5))

    assert len(await notices(harness)) == 1


async def test_each_guard_is_reported_from_the_first_block(harness: Harness) -> None:
    """If a stop replaces the freeze as the reason after a minute, the run is reported two minutes after it was
    blocked."""
    chosen = remedy("fix", FROZEN)
    engine = context(harness.store, harness.clock, [chosen], Health(), "a")
    await fires(engine, chosen)
    await advance_until(engine, ["blocked"])
    await later(engine, harness, timedelta(minutes=1))
    await harness.write(lambda tx: stops.create(tx, "stop-1", "global", "", "database move", "user:bob"))

    await later(engine, harness, timedelta(seconds=70))

    [notice] = await notices(harness)
    assert (notice.content["guard"], notice.content["since"]) == ("kill_switch", "2026-03-04T12:00:00.000000Z")
    assert "database move" in notice.content["text"]


async def test_a_rate_limit_is_reported_with_the_time_when_it_ends(harness: Harness) -> None:
    """At the third attempt within an hour, the notice has the time of the next possible attempt."""
    chosen = remedy("fix", {"rate_limit": ["1/1h"]})
    await harness.acted("run-0", NOON - timedelta(minutes=10), playbook_="fix", target="web-1")
    engine = context(harness.store, harness.clock, [chosen], Health(), "a")
    await fires(engine, chosen, severity="critical")

    await advance_until(engine, ["blocked"])

    [notice] = await notices(harness)
    assert (notice.content["guard"], notice.content["until"]) == ("rate_limit", "2026-03-04T12:50:00.000000Z")


@pytest.mark.parametrize("mode", ["observe", "shadow"])
async def test_a_mode_without_actions_is_not_reported(harness: Harness, mode: str) -> None:
    """In a mode without actions, the run would not have acted without the freeze either, so nothing is reported."""
    chosen = remedy("fix", FROZEN, mode=mode)
    engine = context(harness.store, harness.clock, [chosen], Health(), "a")
    await fires(engine, chosen, mode, severity="critical")

    await later(engine, harness, timedelta(minutes=5))

    assert await notices(harness) == []


class Silenced:
    """An Alertmanager in which every alert fires, and may be silenced or absent."""

    url = "alertmanager"

    def __init__(self, harness: Harness, *, absent: bool = False) -> None:
        self._harness = harness
        self._absent = absent

    async def alerts(self, filters: Any = (), **_: Any) -> tuple[FiringAlert, ...]:
        """Return the alerts of the run."""
        found = await self._harness.store.read(lambda connection: episodes.list_for_run(connection, "run-1"))
        state = Suppression(state="suppressed", silenced_by=("s1",))
        return tuple(
            FiringAlert(
                fingerprint="x", labels=dict(item.labels), starts_at=NOON, ends_at=NOON, updated_at=NOON, status=state
            )
            for item in found
            if not self._absent
        )


async def _asking(harness: Harness, chosen: Playbook, peer: Silenced) -> PipelineContext:
    engine = context(harness.store, harness.clock, [chosen], Health(), "a")
    guard = StillFiring(ClientSet(alertmanagers=(cast(Alertmanager, peer),)))
    engine.guards = [guard, *engine.guards]
    await fires(engine, chosen, severity="critical")
    return engine


async def test_a_silence_is_not_reported(harness: Harness) -> None:
    """A person created the silence, so no notice is needed."""
    engine = await _asking(harness, remedy("fix", {}), Silenced(harness))

    run = await later(engine, harness, timedelta(minutes=5))

    assert (run.blocked_by, await notices(harness)) == ("still_firing", [])


async def test_an_alert_that_no_alertmanager_has_is_reported_after_two_minutes(harness: Harness) -> None:
    """The alert may be about to end, so even a critical alert waits for two minutes before the notice."""
    engine = await _asking(harness, remedy("fix", {}), Silenced(harness, absent=True))
    await advance_until(engine, ["blocked"])
    assert await notices(harness) == []

    await later(engine, harness, timedelta(minutes=3))

    assert [item.content["reason"] for item in await notices(harness)] == ["not_firing"]


async def test_the_message_has_state_reason_end_and_next_step(harness: Harness) -> None:
    """The message has the state, the reason, the end and the next action in this order, and the command for details."""
    chosen = remedy("fix", FROZEN)
    engine = context(harness.store, harness.clock, [chosen], Health(), "a")
    await fires(engine, chosen, severity="critical")
    await advance_until(engine, ["blocked"])
    [notice] = await notices(harness)
    renderer = MessageRenderer(Keyring((b"k" * 32,)), "")

    message = await harness.store.read(
        lambda connection: renderer.render(connection, notice, LogNotifier({}), "oncall", NOON)
    )

    assert message.title == "Blocked: fix on web-1 (guard freeze)"
    headings = ["Result", "Until when", "Alerts", "Likely cause", "Next step"]
    assert [section.heading for section in message.sections] == headings
    result, until, _, _, following = message.sections
    assert result.lines[0].startswith("Status: blocked. Guard freeze blocks the run since 2026-03-04 ")
    assert result.lines[1].startswith("Reason: freeze until 2026-03-05 12:00:00Z")
    assert until.lines[0].startswith("Until 2026-03-05 ")
    assert following.lines[-1] == "To see everything that happened, run: remediator run show run-1"
