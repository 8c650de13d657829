"""The guard ``still_firing``: real Alertmanagers are asked directly before the action.

For authentication, route prefixes and certificates, see tests/clients/test_alertmanager.py and
tests/clients/test_http.py.
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from remediator.clients.alertmanager.client import Alertmanager as Client
from remediator.clients.alertmanager.client import Matcher, NewSilence
from remediator.clients.endpoints import Endpoint
from remediator.clients.grafana.client import Grafana as GrafanaClient
from remediator.core.run import Episode
from remediator.extensions.clientset import ClientSet
from remediator.extensions.guards.base import GuardAnswer, Verdict
from tests.support import fake_servers
from tests.support.guard_history import Harness, alert
from tests.support.servers import free_port, grafana
from tests.support.servers.alertmanager import Alertmanager

pytestmark = pytest.mark.promise(5)


@asynccontextmanager
async def asking(harness: Harness, *urls: str) -> AsyncIterator[Harness]:
    """Return guards that ask these Alertmanagers."""
    async with AsyncExitStack() as stack:
        clients = tuple(Client(Endpoint(url=url, timeout=timedelta(seconds=60))) for url in urls)
        for client in clients:
            stack.push_async_callback(client.aclose)
        yield Harness(harness.store, harness.clock, ClientSet(alertmanagers=clients))


async def ask(harness: Harness, *urls: str, alerts: tuple[Episode, ...] = (), within: str = "30s") -> Verdict:
    async with asking(harness, *urls) as asked:
        return await asked.verdict("still_firing", {"within": within}, alerts=alerts or (alert(instance="a"),))


async def silence(url: str) -> str:
    client = Client(Endpoint(url=url))
    now = datetime.now(UTC)
    made = NewSilence(
        matchers=(Matcher(name="alertname", value="RedisDown"),),
        starts_at=now,
        ends_at=now + timedelta(hours=1),
        created_by="ann",
        comment="maintenance",
    )
    try:
        return await client.post_silence(made)
    finally:
        await client.aclose()


async def test_it_allows_what_fires(harness: Harness, alertmanager: Alertmanager) -> None:
    """If the alert fires and is not suppressed, the guard allows."""
    alertmanager.fire(alertname="RedisDown", instance="a")

    verdict = await ask(harness, alertmanager.url)

    assert verdict.answer is GuardAnswer.ALLOW
    assert verdict.inputs["firing"] == [f"RedisDown on {alertmanager.url}"]


async def test_it_blocks_what_does_not_fire(harness: Harness, alertmanager: Alertmanager) -> None:
    """If only another instance of the alert fires, the guard blocks."""
    alertmanager.fire(alertname="RedisDown", instance="b")

    assert (await ask(harness, alertmanager.url)).sentence == "blocked: not firing on 1 of 1 peers"


async def test_it_blocks_what_is_silenced(harness: Harness, alertmanager: Alertmanager) -> None:
    """A silence means that people know the alert: the guard blocks, and its text has the ID of the silence."""
    alertmanager.fire(alertname="RedisDown", instance="a")
    silence_id = await silence(alertmanager.url)

    verdict = await ask(harness, alertmanager.url)

    assert verdict.sentence == f"blocked: suppressed: RedisDown on {alertmanager.url}: silence {silence_id}"


async def test_it_blocks_what_is_inhibited(harness: Harness, alertmanager: Alertmanager) -> None:
    """If the alert of the cause inhibits the alert, the guard blocks."""
    alertmanager.fire(alertname="NetworkDown", role="cause", service="redis")
    alertmanager.fire(alertname="RedisDown", role="symptom", service="redis")
    symptom = alert(role="symptom", service="redis")

    verdict = await ask(harness, alertmanager.url, alerts=(symptom,))

    assert verdict.reason == "suppressed"
    assert "inhibited by" in verdict.text


async def test_a_silence_on_one_of_two_peers_blocks(
    harness: Harness, alertmanager_pair: tuple[Alertmanager, Alertmanager]
) -> None:
    """A silence that only one of the peers has received yet blocks too."""
    first, second = alertmanager_pair
    for peer in (first, second):
        peer.fire(alertname="RedisDown", instance="a")
    await silence(second.url)

    assert (await ask(harness, first.url, second.url)).reason == "suppressed"


async def test_one_of_two_peers_is_sufficient(
    harness: Harness, alertmanager_pair: tuple[Alertmanager, Alertmanager]
) -> None:
    """If one peer answers and the other one is down, the guard allows, and its inputs name the missing peer."""
    first, second = alertmanager_pair
    for peer in (first, second):
        peer.fire(alertname="RedisDown", instance="a")
    second.kill()

    verdict = await ask(harness, first.url, second.url)

    assert verdict.answer is GuardAnswer.ALLOW
    assert [item.split(": ")[0] for item in verdict.inputs["silent"]] == [second.url]


async def test_a_hung_peer_delays_the_verdict_once(
    harness: Harness, alertmanager_pair: tuple[Alertmanager, Alertmanager]
) -> None:
    """Peers are asked in parallel, so a hung peer delays the verdict once, by its timeout."""
    first, second = alertmanager_pair
    first.fire(alertname="RedisDown", instance="a")
    second.pause()

    begun = time.monotonic()
    verdict = await ask(harness, first.url, second.url, within="5s")

    assert verdict.answer is GuardAnswer.ALLOW
    assert verdict.inputs["silent"] == [f"{second.url}: no answer within 5 s"]
    assert time.monotonic() - begun < 30


async def test_no_answer_of_any_peer_is_unknown(harness: Harness) -> None:
    """If no peer answers, the answer is unknown, and the inputs name the peers."""
    url = f"http://127.0.0.1:{free_port()}"

    verdict = await ask(harness, url)

    assert (verdict.answer, verdict.reason) == (GuardAnswer.UNKNOWN, "no_answer")
    assert verdict.sentence.startswith(
        f"unknown: cannot confirm that the alert fires: no Alertmanager answers: {url}: "
    )


async def test_without_any_alertmanager_it_is_unknown(harness: Harness) -> None:
    """Without an Alertmanager in the settings, the answer is unknown."""
    assert (await harness.verdict("still_firing")).answer is GuardAnswer.UNKNOWN


async def test_many_alerts_are_asked_for_at_once(
    harness: Harness, make_alertmanager: Callable[..., Alertmanager]
) -> None:
    """A run of fifty alerts is judged by all of them: the silence of one alert blocks."""
    server = make_alertmanager()
    for number in range(50):
        server.fire(alertname="RedisDown", instance=str(number))
    alerts = tuple(alert(number, instance=str(number)) for number in range(50))

    assert (await ask(harness, server.url, alerts=alerts)).answer is GuardAnswer.ALLOW

    client = Client(Endpoint(url=server.url))
    now = datetime.now(UTC)
    await client.post_silence(
        NewSilence(
            matchers=(Matcher(name="instance", value="49"),),
            starts_at=now,
            ends_at=now + timedelta(hours=1),
            created_by="ann",
            comment="this one",
        )
    )
    await client.aclose()
    assert (await ask(harness, server.url, alerts=alerts)).reason == "suppressed"


async def test_the_other_replica_of_a_prometheus_pair_is_the_same_alert(
    harness: Harness, alertmanager: Alertmanager
) -> None:
    """The alert came from replica a, which is gone; replica b still reports it, so the guard allows."""
    alertmanager.fire(alertname="RedisDown", instance="a", prometheus_replica="b", replica="1")
    ours = alert(instance="a", prometheus_replica="a", replica="0")

    assert (await ask(harness, alertmanager.url, alerts=(ours,))).answer is GuardAnswer.ALLOW


async def test_a_silence_on_one_replica_of_a_pair_blocks(harness: Harness, alertmanager: Alertmanager) -> None:
    """Both replicas of Prometheus report the alert, and a silence for one of them blocks."""
    alertmanager.fire(alertname="RedisUp", instance="a", replica="0")
    alertmanager.fire(alertname="RedisUp", instance="a", replica="1")
    client = Client(Endpoint(url=alertmanager.url))
    now = datetime.now(UTC)
    await client.post_silence(
        NewSilence(
            matchers=(Matcher(name="replica", value="1"),),
            starts_at=now,
            ends_at=now + timedelta(hours=1),
            created_by="ann",
            comment="maintenance",
        )
    )
    await client.aclose()
    ours = replace(alert(instance="a", replica="0"), labels={"alertname": "RedisUp", "instance": "a", "replica": "0"})

    assert (await ask(harness, alertmanager.url, alerts=(ours,))).reason == "suppressed"


async def test_label_names_that_need_quotes_do_not_hide_the_answer(
    harness: Harness, alertmanager: Alertmanager
) -> None:
    """Alertmanager 0.25 rejects quoted names in a matcher, so they are left out of the request; the answer is known."""
    alertmanager.fire(alertname="RedisDown", instance="a")
    ours = replace(alert(), labels={"alertname": "RedisDown", "label with space": "x", "brace{": "y"})

    verdict = await ask(harness, alertmanager.url, alerts=(ours,))

    assert (verdict.answer, verdict.reason) == (GuardAnswer.BLOCK, "not_firing")


async def test_an_alert_with_such_names_is_found_by_exactly_its_labels(harness: Harness) -> None:
    """The answer comes from a test server that behaves as Alertmanager 0.27, because older versions refuse such an
    alert."""
    labels = {"alertname": "RedisDown", "label with space": "x", "brace{": "y"}
    now = datetime.now(UTC).isoformat()
    times = {"startsAt": now, "endsAt": now, "updatedAt": now}
    active = {"state": "active", "silencedBy": [], "inhibitedBy": [], "mutedBy": []}
    found = [
        {"fingerprint": "1", "labels": each, "annotations": {}, "receivers": [], "status": active, **times}
        for each in ({**labels, "brace{": "z"}, labels)
    ]
    ours = replace(alert(), labels=labels)
    other = replace(alert(), labels={**labels, "brace{": "w"})
    async with fake_servers.peer(fake_servers.reply(200, json.dumps(found).encode())) as fake:
        assert (await ask(harness, f"http://127.0.0.1:{fake.port}", alerts=(ours,))).answer is GuardAnswer.ALLOW
    async with fake_servers.peer(fake_servers.reply(200, json.dumps(found).encode())) as fake:
        assert (await ask(harness, f"http://127.0.0.1:{fake.port}", alerts=(other,))).reason == "not_firing"


@asynccontextmanager
async def asking_grafana(harness: Harness, tmp_path: Path) -> AsyncIterator[tuple[Harness, grafana.Grafana]]:
    """Return guards with a Grafana, and with a source that cannot be asked."""
    (tmp_path / "token").write_text(grafana.TOKEN)
    with grafana.grafana() as running:
        client = GrafanaClient(Endpoint(url=running.url, token_file=tmp_path / "token"))
        try:
            yield (
                Harness(harness.store, harness.clock, ClientSet(sources={"grafana": (client,), "datadog": ()})),
                running,
            )
        finally:
            await client.aclose()


def of(source: str, number: int = 0, status: str = "firing") -> Episode:
    return replace(alert(number, status, instance="a"), source=source)


async def judge(harness: Harness, *alerts: Episode) -> tuple[GuardAnswer, str, str]:
    verdict = await harness.verdict("still_firing", alerts=alerts)
    return verdict.answer, verdict.reason, verdict.text


async def test_each_source_is_asked_about_its_own_alerts(harness: Harness, tmp_path: Path) -> None:
    """Grafana reports its alerts as firing, silenced and ended."""
    async with asking_grafana(harness, tmp_path) as (asked, running):
        assert (await judge(asked, of("grafana")))[:2] == (GuardAnswer.BLOCK, "not_firing")
        running.fire(alertname="RedisDown", instance="a")
        assert (await judge(asked, of("grafana")))[0] is GuardAnswer.ALLOW
        running.alerts.clear()
        running.fire(("s1",), alertname="RedisDown", instance="a")
        answer, reason, text = await judge(asked, of("grafana"))
        assert (answer, reason) == (GuardAnswer.BLOCK, "suppressed") and "silence s1" in text


async def test_a_source_without_an_api_is_unknown(harness: Harness, tmp_path: Path) -> None:
    """If the source cannot be asked, the answer is unknown.

    A firing alert of another source is sufficient; a resolved alert does not fire.
    """
    async with asking_grafana(harness, tmp_path) as (asked, running):
        answer, reason, text = await judge(asked, of("datadog"))
        assert (answer, reason) == (GuardAnswer.UNKNOWN, "no_answer")
        assert text == "cannot confirm that the alert fires: the source 'datadog' cannot be asked"
        assert (await judge(asked, of("removed")))[0] is GuardAnswer.UNKNOWN
        assert await judge(asked, of("datadog", status="resolved")) == (
            GuardAnswer.BLOCK,
            "not_firing",
            "every alert of the run is resolved",
        )
        running.fire(alertname="RedisDown", instance="a")
        assert (await judge(asked, of("datadog"), of("grafana", 1)))[0] is GuardAnswer.ALLOW


async def test_a_source_that_does_not_answer_may_have_suppressed_its_alert(harness: Harness, tmp_path: Path) -> None:
    """If one source does not answer, a firing alert of another source is not sufficient."""
    async with asking_grafana(harness, tmp_path) as (asked, running):
        running.fire(alertname="RedisDown", instance="a")
        gone = Client(Endpoint(url=f"http://127.0.0.1:{free_port()}"))
        clients = ClientSet(sources={"grafana": tuple(asked.world.sources["grafana"]), "mimir": (gone,)})
        both = Harness(harness.store, harness.clock, clients)
        answer, reason, text = await judge(both, of("grafana"), of("mimir", 1))
        await gone.aclose()
    assert (answer, reason) == (GuardAnswer.UNKNOWN, "no_answer")
    assert "no server of the source 'mimir' answers" in text
