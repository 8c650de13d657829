"""alertmanager.silence on a real Alertmanager: about dependants only, with a mark, ended by its way back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
from pydantic import ValidationError

from remediator import registry
from remediator.actions import RUN, Action, Happened, Outcome
from remediator.clients.alertmanager import Alertmanager as Client
from remediator.clients.endpoint import Endpoint
from remediator.errors import TargetError, Unreachable
from remediator.inventory import Inventory
from remediator.world import World
from tests.actions.doing import do, observe, plan, undo
from tests.servers.alertmanager import Alertmanager

INVENTORY = Inventory.model_validate(
    {
        "apiVersion": "remediator/v1",
        "kind": "Inventory",
        "services": {
            name: {"platform": {"kind": "supervisor", "url": "unix:///none", "program": name}, "depends_on": needs}
            for name, needs in {"redis": [], "app": ["redis"], "shop": ["app"]}.items()
        },
    }
)
REDIS = INVENTORY.service("redis")


@pytest.fixture
def server(make_alertmanager: object) -> Alertmanager:
    """One that runs."""
    return make_alertmanager()  # type: ignore[operator, no-any-return]


@pytest.fixture
async def client(server: Alertmanager) -> AsyncIterator[Client]:
    """A client of it."""
    made = Client(Endpoint(url=server.url))
    yield made
    await made.aclose()


def actions(*alertmanagers: Client) -> dict[str, Action]:
    return registry.make_actions(World(alertmanagers=alertmanagers, inventory=lambda: INVENTORY))


async def test_dependants_are_silenced_and_heard_again(client: Client) -> None:
    """With the run's id in the comment, so that people know whom to ask."""
    made = actions(client)
    action = made["alertmanager.silence"]
    RUN.set("run-7")
    call = await plan(action, REDIS, duration="5m")
    assert (await observe(action, REDIS, call)).happened is Happened.NO
    result = await do(action, REDIS, call=call, duration="5m")

    active = [each for each in await client.silences() if each.status.state == "active"]
    assert result.outcome is Outcome.OK
    assert {(each.matchers[0].name, each.matchers[0].value) for each in active} == {
        ("service", "app"),
        ("service", "shop"),
    }
    assert all("remediator run run-7 repairs redis" in each.comment for each in active)
    assert all((each.ends_at - datetime.now(UTC)).total_seconds() <= 300 for each in active)
    assert (await observe(action, REDIS, call)).happened is Happened.YES

    await undo(action, made, REDIS, call, result)
    assert not [each for each in await client.silences() if each.status.state == "active"]


async def test_the_first_that_can_be_reached_is_asked(client: Client) -> None:
    """Members of a cluster tell each other."""
    away = Client(Endpoint(url="http://127.0.0.1:9"))
    made = actions(away, client)

    assert (await do(made["alertmanager.silence"], REDIS)).outcome is Outcome.OK
    with pytest.raises(Unreachable):
        await do(actions(away)["alertmanager.silence"], REDIS)
    await away.aclose()


async def test_without_dependants_or_alertmanager_there_is_nothing_to_silence(client: Client) -> None:
    """Never everything."""
    with pytest.raises(TargetError, match="nothing in the inventory depends on shop"):
        await plan(actions(client)["alertmanager.silence"], INVENTORY.service("shop"))
    with pytest.raises(TargetError, match="no Alertmanager is configured"):
        await plan(actions()["alertmanager.silence"], REDIS)


async def test_no_silence_lasts_longer_than_four_hours(client: Client) -> None:
    """Whatever the playbook says."""
    call = await plan(actions(client)["alertmanager.silence"], REDIS, duration="10d")

    assert call.arguments["seconds"] == 4 * 3600


def test_only_our_own_silences_can_be_ended() -> None:
    """alertmanager.expire_silences takes our mark and nothing else."""
    with pytest.raises(ValidationError):
        actions()["alertmanager.expire_silences"].Parameters.model_validate({"mark": "maintenance of the rack"})
