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
from tests.support.guard_history import NOON, House, alert

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


async def notices(house: House) -> list[OutboxMessage]:
    """Return the notices about the run."""
    found = await house.store.read(lambda connection: outbox.list_for_run(connection, "run-1"))
    return [item for item in found if item.kind == "held_back"]


async def later(engine: PipelineContext, house: House, span: timedelta) -> Run:
    """Advance the run to a later time, in steps of ten seconds."""
    end = house.clock.time + span
    while house.clock.time < end:
        house.clock.time += timedelta(seconds=10)
        run = await advance_until(engine, ["blocked", "succeeded", "awaiting_approval"])
    return run


async def test_a_critical_alert_is_reported_at_once(house: House) -> None:
    """The notice has the guard, the reason and the end of the freeze, and is written in the same transaction as the
    state."""
    chosen = remedy("mend", FROZEN)
    engine = context(house.store, house.clock, [chosen], Health(), "a")
    await fires(engine, chosen, severity="critical")

    await advance_until(engine, ["blocked"])

    [notice] = await notices(house)
    assert notice.channel == "oncall"
    assert (notice.content["guard"], notice.content["reason"]) == ("freeze", "frozen")
    assert notice.content["until"] == "2026-03-05T12:00:00.000000Z"


async def test_other_alerts_are_reported_after_two_minutes_and_once(house: House) -> None:
    """In the first two minutes there is no notice; then there is one, and no other in the next ten minutes."""
    chosen = remedy("mend", FROZEN)
    engine = context(house.store, house.clock, [chosen], Health(), "a")
    await fires(engine, chosen, severity="warning")
    await advance_until(engine, ["blocked"])

    await later(engine, house, timedelta(seconds=110))
    assert await notices(house) == []
    await later(engine, house, timedelta(seconds=20))
    assert len(await notices(house)) == 1
    await later(engine, house, timedelta(minutes=10))
    assert len(await notices(house)) == 1


async def test_another_replica_after_a_restart_does_not_repeat_it(house: House) -> None:
    """The store has the record, so a new process does not send the notice again."""
    chosen = remedy("mend", FROZEN)
    first = context(house.store, house.clock, [chosen], Health(), "a")
    await fires(first, chosen, severity="critical")
    await advance_until(first, ["blocked"])

    await later(context(house.store, house.clock, [chosen], Health(), "b"), house, timedelta(minutes=5))

    assert len(await notices(house)) == 1


async def test_each_guard_is_reported_from_the_first_block(house: House) -> None:
    """If a stop replaces the freeze as the reason after a minute, the run is reported two minutes after it was
    blocked."""
    chosen = remedy("mend", FROZEN)
    engine = context(house.store, house.clock, [chosen], Health(), "a")
    await fires(engine, chosen)
    await advance_until(engine, ["blocked"])
    await later(engine, house, timedelta(minutes=1))
    await house.write(lambda tx: stops.create(tx, "stop-1", "global", "", "database move", "user:bob"))

    await later(engine, house, timedelta(seconds=70))

    [notice] = await notices(house)
    assert (notice.content["guard"], notice.content["since"]) == ("kill_switch", "2026-03-04T12:00:00.000000Z")
    assert "database move" in notice.content["text"]


async def test_a_rate_limit_is_reported_with_the_time_when_it_ends(house: House) -> None:
    """At the third attempt within an hour, the notice has the time of the next possible attempt."""
    chosen = remedy("mend", {"rate_limit": ["1/1h"]})
    await house.acted("run-0", NOON - timedelta(minutes=10), playbook_="mend", target="web-1")
    engine = context(house.store, house.clock, [chosen], Health(), "a")
    await fires(engine, chosen, severity="critical")

    await advance_until(engine, ["blocked"])

    [notice] = await notices(house)
    assert (notice.content["guard"], notice.content["until"]) == ("rate_limit", "2026-03-04T12:50:00.000000Z")


@pytest.mark.parametrize("mode", ["observe", "shadow"])
async def test_a_mode_that_never_acts_is_not_held_back(house: House, mode: str) -> None:
    """In a mode without actions, the run would not have acted without the freeze either, so nothing is reported."""
    chosen = remedy("mend", FROZEN, mode=mode)
    engine = context(house.store, house.clock, [chosen], Health(), "a")
    await fires(engine, chosen, mode, severity="critical")

    await later(engine, house, timedelta(minutes=5))

    assert await notices(house) == []


class Silenced:
    """An Alertmanager in which every alert fires, and may be silenced or absent."""

    url = "alertmanager"

    def __init__(self, house: House, *, absent: bool = False) -> None:
        self._house = house
        self._absent = absent

    async def alerts(self, filters: Any = (), **_: Any) -> tuple[FiringAlert, ...]:
        """Return the alerts of the run."""
        found = await self._house.store.read(lambda connection: episodes.list_for_run(connection, "run-1"))
        state = Suppression(state="suppressed", silenced_by=("s1",))
        return tuple(
            FiringAlert(
                fingerprint="x", labels=dict(item.labels), starts_at=NOON, ends_at=NOON, updated_at=NOON, status=state
            )
            for item in found
            if not self._absent
        )


async def _asking(house: House, chosen: Playbook, peer: Silenced) -> PipelineContext:
    engine = context(house.store, house.clock, [chosen], Health(), "a")
    guard = StillFiring(ClientSet(alertmanagers=(cast(Alertmanager, peer),)))
    engine.guards = [guard, *engine.guards]
    await fires(engine, chosen, severity="critical")
    return engine


async def test_a_silence_is_not_reported(house: House) -> None:
    """A person created the silence, so no notice is needed."""
    engine = await _asking(house, remedy("mend", {}), Silenced(house))

    run = await later(engine, house, timedelta(minutes=5))

    assert (run.blocked_by, await notices(house)) == ("still_firing", [])


async def test_an_alert_that_no_alertmanager_has_is_reported_after_two_minutes(house: House) -> None:
    """The alert may be about to end, so even a critical alert waits for two minutes before the notice."""
    engine = await _asking(house, remedy("mend", {}), Silenced(house, absent=True))
    await advance_until(engine, ["blocked"])
    assert await notices(house) == []

    await later(engine, house, timedelta(minutes=3))

    assert [item.content["reason"] for item in await notices(house)] == ["not_firing"]


async def test_the_message_has_state_reason_end_and_next_step(house: House) -> None:
    """The message has the state, the reason, the end and the next action in this order, and the command for details."""
    chosen = remedy("mend", FROZEN)
    engine = context(house.store, house.clock, [chosen], Health(), "a")
    await fires(engine, chosen, severity="critical")
    await advance_until(engine, ["blocked"])
    [notice] = await notices(house)
    renderer = MessageRenderer(Keyring((b"k" * 32,)), "")

    message = await house.store.read(
        lambda connection: renderer.render(connection, notice, LogNotifier({}), "oncall", NOON)
    )

    assert message.title == "Blocked: mend on web-1 (guard freeze)"
    headings = ["Result", "Until when", "Alerts", "Likely cause", "Next step"]
    assert [section.heading for section in message.sections] == headings
    result, until, _, _, following = message.sections
    assert result.lines[0].startswith("Status: blocked. Guard freeze blocks the run since 2026-03-04 ")
    assert result.lines[1].startswith("Reason: freeze until 2026-03-05 12:00:00Z")
    assert until.lines[0].startswith("Until 2026-03-05 ")
    assert following.lines[-1] == "To see everything that happened, run: remediator run show run-1"
