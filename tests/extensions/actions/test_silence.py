"""``alertmanager.silence`` on a real Alertmanager: only alerts of dependants, marked with the run, and undone."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import ValidationError

from remediator.clients.alertmanager.client import Alertmanager as Client
from remediator.clients.alertmanager.client import Matcher, NewSilence
from remediator.clients.endpoints import Endpoint
from remediator.core.outcome import Outcome
from remediator.core.plan import PlannedCall
from remediator.errors import BadAnswer, Refused, TargetError, TimedOut, Unreachable
from remediator.extensions.actions.base import ALERT_SOURCES, RUN, Action, EffectStatus, Result
from remediator.extensions.clientset import ClientSet
from remediator.extensions.registry import Registry
from remediator.playbooks.inventory import Inventory
from tests.support.action_runner import do, observe, plan, undo
from tests.support.fake_servers import listener, peer, read_request, reply
from tests.support.servers.alertmanager import Alertmanager
from tests.support.servers.unanswered import deaf

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
    """Start an Alertmanager."""
    return make_alertmanager()  # type: ignore[operator, no-any-return]


@pytest.fixture
async def client(server: Alertmanager) -> AsyncIterator[Client]:
    """Return a client of the Alertmanager."""
    made = Client(Endpoint(url=server.url))
    yield made
    await made.aclose()


def actions(*alertmanagers: Client) -> dict[str, Action]:
    return Registry().make_actions(ClientSet(alertmanagers=alertmanagers, inventory=lambda: INVENTORY))


async def test_alerts_of_dependants_are_silenced_and_the_silence_is_undone(client: Client) -> None:
    """The comment of the silence contains the ID of the run; the undo ends the silence."""
    made = actions(client)
    action = made["alertmanager.silence"]
    RUN.set("run-7")
    call = await plan(action, REDIS, duration="5m")
    assert (await observe(action, REDIS, call)).happened is EffectStatus.NO
    result = await do(action, REDIS, call=call, duration="5m")

    active = [each for each in await client.silences() if each.status.state == "active"]
    assert result.outcome is Outcome.OK
    assert {(each.matchers[0].name, each.matchers[0].value) for each in active} == {
        ("service", "app"),
        ("service", "shop"),
    }
    assert all("remediator run run-7 repairs redis" in each.comment for each in active)
    assert all((each.ends_at - datetime.now(UTC)).total_seconds() <= 300 for each in active)
    assert (await observe(action, REDIS, call)).happened is EffectStatus.YES

    await undo(action, made, REDIS, call, result)
    assert not [each for each in await client.silences() if each.status.state == "active"]


async def test_the_first_that_can_be_reached_is_asked(client: Client) -> None:
    """The request goes to the first reachable member, because members replicate silences."""
    away = Client(Endpoint(url="http://127.0.0.1:9"))
    made = actions(away, client)

    assert (await do(made["alertmanager.silence"], REDIS)).outcome is Outcome.OK
    with pytest.raises(Unreachable):
        await do(actions(away)["alertmanager.silence"], REDIS)
    await away.aclose()


async def test_without_dependants_or_alertmanager_there_is_nothing_to_silence(client: Client) -> None:
    """Without dependants or an Alertmanager the plan is refused, and no silence is created for all alerts."""
    with pytest.raises(TargetError, match="no service in the inventory depends on 'shop'"):
        await plan(actions(client)["alertmanager.silence"], INVENTORY.service("shop"))
    with pytest.raises(TargetError, match="no Alertmanager is configured"):
        await plan(actions()["alertmanager.silence"], REDIS)


async def test_alerts_of_another_source_are_not_silenced_in_alertmanager(client: Client) -> None:
    """If no alert of the run comes from Alertmanager, the plan is refused with the reason; one such alert is enough."""
    action = actions(client)["alertmanager.silence"]
    token = ALERT_SOURCES.set(frozenset({"grafana"}))
    try:
        with pytest.raises(TargetError, match="are from grafana; a silence in Alertmanager has no effect"):
            await plan(action, REDIS)
        ALERT_SOURCES.set(frozenset({"grafana", "alertmanager"}))
        assert (await plan(action, REDIS)).text.startswith("silence the alerts of")
    finally:
        ALERT_SOURCES.reset(token)


async def test_no_silence_lasts_longer_than_four_hours(client: Client) -> None:
    """A longer duration in the playbook is limited to four hours."""
    call = await plan(actions(client)["alertmanager.silence"], REDIS, duration="10d")

    assert call.arguments["seconds"] == 4 * 3600


def test_only_our_own_silences_can_be_ended() -> None:
    """``alertmanager.expire_silences`` accepts only the mark of remediator."""
    with pytest.raises(ValidationError):
        actions()["alertmanager.expire_silences"].Parameters.model_validate({"mark": "maintenance of the rack"})


OURS = "remediator run run-7 repairs redis, 2026-01-01T00:00:00.000000Z"
EITHER = pytest.mark.parametrize("name", ["alertmanager.silence", "alertmanager.expire_silences"])


def given(name: str, mark: str = OURS) -> dict[str, str]:
    """Return the parameters of the action."""
    return {"mark": mark} if name == "alertmanager.expire_silences" else {}


async def doing(name: str, client: Client, call: PlannedCall | None = None) -> Result:
    """Call the action, and plan it first if no plan is given."""
    return await do(actions(client)[name], REDIS, call=call, **given(name))


async def silenced(client: Client) -> PlannedCall:
    """Create silences, and return their plan."""
    action = actions(client)["alertmanager.silence"]
    RUN.set("run-7")
    call = await plan(action, REDIS)
    await do(action, REDIS, call=call)
    return call


@EITHER
async def test_an_alertmanager_that_answers_403_has_refused(name: str, client: Client) -> None:
    """A 401 or 403, for example from a proxy, raises :class:`Refused`."""
    for status in (401, 403):
        async with peer(reply(status, b"no")) as web:
            away = Client(Endpoint(url=web.url))
            with pytest.raises(Refused, match=str(status)):
                await doing(name, away)
            await away.aclose()
    assert await client.silences() == ()


@EITHER
async def test_a_call_to_a_silent_alertmanager_ends(name: str) -> None:
    """Without a connection, nothing happened. Without an answer, the outcome of a change is unknown."""

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        await reader.read()

    away = Client(Endpoint(url="http://127.0.0.1:9"))
    with pytest.raises(Unreachable):
        await doing(name, away)
    await away.aclose()
    async with listener(silent) as port:
        slow = Client(Endpoint(url=f"http://127.0.0.1:{port}", timeout=timedelta(milliseconds=300)))
        with pytest.raises((TimedOut, Unreachable)):
            await doing(name, slow)
        await slow.aclose()


@EITHER
async def test_an_invalid_answer_of_alertmanager_is_a_bad_answer(name: str) -> None:
    """An HTML page, or JSON of another shape, raises :class:`BadAnswer`."""
    for body in (b"<html>welcome</html>", b'{"silenceID": 7}', b'[{"id": {}}]'):
        async with peer(reply(200, body)) as web:
            other = Client(Endpoint(url=web.url))
            with pytest.raises(BadAnswer):
                await doing(name, other)
            await other.aclose()


async def test_silences_with_a_lost_answer_are_observed(server: Alertmanager, client: Client) -> None:
    """The call was sent once, and an observation finds the silence."""
    action = actions(client)["alertmanager.silence"]
    RUN.set("run-7")
    call = await plan(action, REDIS, services=("app",))
    async with deaf(server.url) as (url, withheld):
        hushed = Client(Endpoint(url=url, timeout=timedelta(seconds=2)))
        with pytest.raises(TimedOut):
            await do(actions(hushed)["alertmanager.silence"], REDIS, call=call, services=("app",))
        await hushed.aclose()
    assert len(withheld) == 1
    assert len(await client.silences()) == 1
    assert (await observe(action, REDIS, call, services=("app",))).happened is EffectStatus.YES


async def test_expired_silences_with_a_lost_answer_are_observed(server: Alertmanager, client: Client) -> None:
    """The observation finds the remaining silence, and a second call ends it."""
    mark = str((await silenced(client)).arguments["mark"])
    action = actions(client)["alertmanager.expire_silences"]
    call = await plan(action, REDIS, mark=mark)
    async with deaf(server.url) as (url, withheld):
        hushed = Client(Endpoint(url=url, timeout=timedelta(seconds=2)))
        with pytest.raises(TimedOut):
            await do(actions(hushed)["alertmanager.expire_silences"], REDIS, call=call, mark=mark)
        await hushed.aclose()
    assert len(withheld) == 1
    assert (await observe(action, REDIS, call, mark=mark)).happened is EffectStatus.NO, "one of the two is left"
    assert (await do(action, REDIS, call=call, mark=mark)).output == {"ended": 1}
    assert (await observe(action, REDIS, call, mark=mark)).happened is EffectStatus.YES


async def test_the_order_in_which_silences_are_listed_is_not_part_of_a_plan() -> None:
    """Alertmanager lists silences with the same end in any order; the plan sorts them, so an approval stays valid."""
    when = "2026-01-01T00:00:00.000Z"
    times = {"startsAt": when, "endsAt": when, "updatedAt": when}
    listed = [
        {"id": name, "comment": "remediator run 7", "createdBy": "r", "matchers": [], "status": {"state": "active"}}
        | times
        for name in ("b", "a", "c")
    ]
    async with peer(reply(200, json.dumps(listed).encode(), "content-type: application/json")) as web:
        there = Client(Endpoint(url=web.url))
        call = await plan(actions(there)["alertmanager.expire_silences"], REDIS, mark="remediator run 7")
        await there.aclose()
    assert call.arguments == {"silences": ["a", "b", "c"]}


async def test_silences_of_others_are_not_changed(client: Client) -> None:
    """If another person ended the silence and created a new one, the new one stays, and the missing one is not an
    error."""
    mark = str((await silenced(client)).arguments["mark"])
    action = actions(client)["alertmanager.expire_silences"]
    call = await plan(action, REDIS, mark=mark)
    for silence in await client.silences():
        await client.expire_silence(silence.id)
    now = datetime.now(UTC)
    theirs = NewSilence(
        matchers=(Matcher(name="service", value="app"),),
        starts_at=now,
        ends_at=now + timedelta(hours=1),
        created_by="ann",
        comment="rack move",
    )
    await client.post_silence(theirs)
    assert (await do(action, REDIS, call=call, mark=mark)).output == {"ended": 0}
    assert [each.comment for each in await client.silences() if each.status.state == "active"] == ["rack move"]
