"""The client of Alertmanager, against real Alertmanagers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from remediator.clients.alertmanager.client import Alertmanager, FiringAlert, Matcher, NewSilence, Silence, matchers_for
from remediator.clients.endpoints import Endpoint
from remediator.clients.http import HttpRefused
from remediator.core import matchers
from remediator.core.matchers import Operator, equals
from remediator.errors import BadAnswer, TimedOut, Unreachable
from tests.support.fake_servers import peer, reply
from tests.support.servers.alertmanager import Alertmanager as Server

OPENSESAME = "$2b$04$fhGAZ/.dnIDe3h3uhA.RkOGk4cZXUS4AJfpqg0GTwoF/Vn/4D3Fji"
NASTY = 'a"b\\c\nd=~{},é'


@pytest.fixture
async def client(alertmanager: Server) -> AsyncIterator[Alertmanager]:
    client = Alertmanager(Endpoint(url=alertmanager.url))
    yield client
    await client.aclose()


def silence(**labels: str) -> NewSilence:
    """Return a silence of ten minutes for alerts with these labels."""
    now = datetime.now(UTC)
    return NewSilence(
        matchers=tuple(Matcher(name=name, value=value) for name, value in labels.items()),
        starts_at=now,
        ends_at=now + timedelta(minutes=10),
        created_by="remediator",
        comment="run 1",
    )


async def eventually(seen: Callable[[], Awaitable[bool]], seconds: float = 60) -> None:
    """Poll until the result is true."""
    async with asyncio.timeout(seconds):
        while not await seen():
            await asyncio.sleep(0.02)


async def exactly(client: Alertmanager, labels: Mapping[str, str]) -> FiringAlert | None:
    """Return the alert with exactly these labels, or None if it does not fire."""
    return next((each for each in await client.alerts(matchers_for(labels)) if each.labels == labels), None)


async def of(client: Alertmanager, silence_id: str) -> Silence | None:
    """Return the silence with this ID."""
    return next((each for each in await client.silences() if each.id == silence_id), None)


async def fetch(client: Alertmanager, **labels: str) -> FiringAlert:
    """Return the alert with these labels after Alertmanager has processed it."""

    async def processed() -> bool:
        alert = await exactly(client, labels)
        return alert is not None and alert.status.state != "unprocessed"

    await eventually(processed)
    alert = await exactly(client, labels)
    assert alert is not None
    return alert


async def test_a_firing_alert_is_found_by_exactly_its_labels(client: Alertmanager, alertmanager: Server) -> None:
    """An alert with more or fewer labels is another alert. Label values may hold any text."""
    alertmanager.fire(alertname="A", weird=NASTY)
    alertmanager.fire(alertname="A", weird=NASTY, instance="1")
    alert = await fetch(client, alertname="A", weird=NASTY)
    assert alert.labels == {"alertname": "A", "weird": NASTY}
    assert alert.status.suppressed is False
    assert [each.name for each in alert.receivers] == ["default"]
    assert alert.starts_at.tzinfo is UTC
    assert abs(datetime.now(UTC) - alert.starts_at) < timedelta(minutes=1)
    assert await exactly(client, {"alertname": "A"}) is None
    assert await exactly(client, {"alertname": "B"}) is None


async def test_fingerprints_are_those_of_alertmanager(client: Alertmanager, alertmanager: Server) -> None:
    """The client returns the fingerprint that webhooks of Alertmanager carry."""
    alertmanager.fire(alertname="A")
    assert (await fetch(client, alertname="A")).fingerprint == alertmanager.get("/api/v2/alerts")[0]["fingerprint"]


async def test_filters_are_matchers(client: Alertmanager, alertmanager: Server) -> None:
    """All matchers must hold. An invalid matcher is an error and is not ignored."""
    for instance in ("a", "b"):
        alertmanager.fire(alertname="A", instance=instance)
    found = await client.alerts([equals("alertname", "A"), str(matchers.Matcher("instance", Operator("=~"), "a|x"))])
    assert [each.labels["instance"] for each in found] == ["a"]
    assert (
        await client.alerts([equals("alertname", "A"), str(matchers.Matcher("instance", Operator("!~"), "a|b"))]) == ()
    )
    assert len(await client.alerts(receiver="def.*")) == 2
    assert await client.alerts(receiver="def") == ()
    with pytest.raises(HttpRefused):
        await client.alerts(["nonsense"])


async def test_a_resolved_alert_is_gone(client: Alertmanager, alertmanager: Server) -> None:
    """A resolved alert is not in the list of firing alerts."""
    alertmanager.fire(alertname="A")
    await fetch(client, alertname="A")
    alertmanager.resolve("2020-01-01T00:00:00Z", alertname="A")

    async def gone() -> bool:
        return await exactly(client, {"alertname": "A"}) is None

    await eventually(gone)
    assert "A" not in {alert.labels["alertname"] for alert in await client.alerts()}


@pytest.mark.promise(5)
async def test_a_silenced_alert_says_by_which_silence(client: Alertmanager, alertmanager: Server) -> None:
    """A silenced alert is suppressed and names the silence. After the silence expires, the alert is active again."""
    alertmanager.fire(alertname="A", weird=NASTY)
    silence_id = await client.post_silence(silence(weird=NASTY))
    alert = await fetch(client, alertname="A", weird=NASTY)
    assert alert.status.suppressed
    assert alert.status.silenced_by == (silence_id,)
    assert await client.alerts(silenced=False) == ()
    await client.expire_silence(silence_id)

    async def active() -> bool:
        return not (await fetch(client, alertname="A", weird=NASTY)).status.suppressed

    await eventually(active)


@pytest.mark.promise(5)
async def test_an_inhibited_alert_says_by_which_alert(client: Alertmanager, alertmanager: Server) -> None:
    """An inhibited alert is suppressed and names the inhibiting alert of the same service, not another alert."""
    alertmanager.fire(alertname="Cause", role="cause", service="redis")
    alertmanager.fire(alertname="Symptom", role="symptom", service="redis")
    alertmanager.fire(alertname="Symptom", role="symptom", service="other")
    cause = await fetch(client, alertname="Cause", role="cause", service="redis")

    async def inhibited() -> bool:
        alert = await fetch(client, alertname="Symptom", role="symptom", service="redis")
        return alert.status.inhibited_by == (cause.fingerprint,) and alert.status.suppressed

    await eventually(inhibited)
    assert not (await fetch(client, alertname="Symptom", role="symptom", service="other")).status.suppressed
    assert {each.labels["alertname"] for each in await client.alerts(inhibited=False)} == {"Cause", "Symptom"}


async def test_silences_are_listed_read_and_expired(client: Alertmanager) -> None:
    """A created silence is returned, an expired silence has this state, and an unknown silence is None."""
    wanted = silence(service="app")
    silence_id = await client.post_silence(wanted)
    found = await of(client, silence_id)
    assert found is not None
    assert (found.status.state, found.created_by, found.comment) == ("active", "remediator", "run 1")
    assert found.matchers == wanted.matchers
    assert abs(found.ends_at - wanted.ends_at) < timedelta(seconds=1)
    assert [each.id for each in await client.silences([equals("service", "app")])] == [silence_id]
    assert await client.silences([equals("service", "other")]) == ()
    await client.expire_silence(silence_id)
    expired = await of(client, silence_id)
    assert expired is not None and expired.status.state == "expired"
    assert await of(client, "00000000-0000-0000-0000-000000000000") is None


async def test_what_alertmanager_does_not_allow_is_refused(client: Alertmanager) -> None:
    """Refused are a silence for everything, one that ends before its start, and the end of an unknown silence."""
    with pytest.raises(HttpRefused):
        await client.post_silence(silence())
    backwards = silence(a="b")
    with pytest.raises(HttpRefused):
        await client.post_silence(
            NewSilence(
                matchers=backwards.matchers,
                starts_at=backwards.ends_at,
                ends_at=backwards.starts_at,
                created_by="remediator",
                comment="x",
            )
        )
    with pytest.raises(HttpRefused):
        await client.expire_silence("00000000-0000-0000-0000-000000000000")
    for strange in ("", "../alerts", "a/b", "a?b"):
        with pytest.raises(BadAnswer):
            await client.expire_silence(strange)


async def test_groups_status_receivers_and_readiness(client: Alertmanager, alertmanager: Server) -> None:
    """The client reads groups, status, receivers and readiness."""
    alertmanager.fire(alertname="A", instance="1")
    alertmanager.fire(alertname="A", instance="2")

    async def grouped() -> bool:
        return [len(group.alerts) for group in await client.groups()] == [2]

    await eventually(grouped)
    group = (await client.groups())[0]
    assert (group.labels, group.receiver.name) == ({"alertname": "A"}, "default")
    status = await client.status()
    assert status.version[0].isdigit()
    assert status.cluster.status == "disabled"
    assert status.started.tzinfo is UTC
    assert await client.receivers() == ("default",)
    await client.ready()


@pytest.mark.promise(5)
async def test_a_silence_made_on_one_peer_is_seen_on_the_other(alertmanager_pair: tuple[Server, Server]) -> None:
    """A silence made on one peer appears on the other. When one peer is down, the other answers."""
    first, second = (Alertmanager(Endpoint(url=each.url)) for each in alertmanager_pair)
    for each in alertmanager_pair:
        each.fire(alertname="A")
    silence_id = await first.post_silence(silence(alertname="A"))

    async def silenced() -> bool:
        return (await fetch(second, alertname="A")).status.silenced_by == (silence_id,)

    await eventually(silenced)
    assert len((await second.status()).cluster.peers) == 2
    alertmanager_pair[0].kill()
    with pytest.raises(Unreachable):
        await first.alerts()
    assert await silenced()
    await first.aclose()
    await second.aclose()


async def test_a_route_prefix_and_a_password_are_honoured(
    make_alertmanager: Callable[..., Server], tmp_path: Path
) -> None:
    """Behind /team/alerts with basic authentication, only the right prefix and password give an answer."""
    server = make_alertmanager(prefix="/team/alerts", web=f"basic_auth_users: {{operator: '{OPENSESAME}'}}\n")
    (tmp_path / "right").write_text("opensesame\n")
    (tmp_path / "wrong").write_text("guess\n")
    for url, file, status in (
        (server.url, "right", None),
        (server.url, "wrong", 401),
        (server.url.removesuffix("/team/alerts"), "right", 404),
    ):
        basic = {"username": "operator", "password_file": tmp_path / file}
        client = Alertmanager(Endpoint.model_validate({"url": url, "basic": basic}))
        if status is None:
            assert await client.alerts() == ()
            await client.ready()
        else:
            with pytest.raises(HttpRefused) as refused:
                await client.alerts()
            assert refused.value.status == status
        await client.aclose()


@pytest.mark.promise(3)
async def test_a_hung_alertmanager_is_not_an_empty_list(client: Alertmanager, alertmanager: Server) -> None:
    """A hung Alertmanager is TimedOut and a stopped one Unreachable. Neither is an empty list."""
    hasty = Alertmanager(Endpoint.model_validate({"url": alertmanager.url, "timeout": "2s"}))
    alertmanager.pause()
    with pytest.raises(TimedOut):
        await hasty.alerts()
    with pytest.raises(TimedOut):
        await hasty.post_silence(silence(a="b"))
    alertmanager.kill()
    with pytest.raises(Unreachable):
        await hasty.alerts()
    await hasty.aclose()


ALERT: dict[str, Any] = {
    "fingerprint": "f",
    "labels": {"alertname": "A"},
    "startsAt": "2026-01-02T03:04:05.123456444+02:00",
    "endsAt": "0001-01-01T00:00:00Z",
    "updatedAt": "2026-01-02T03:04:05Z",
    "status": {"state": "suppressed", "silencedBy": [], "inhibitedBy": [], "mutedBy": ["weekend"]},
    "somethingNew": 1,
}


async def _alerts_from(body: Any) -> tuple[FiringAlert, ...]:
    async with peer(reply(200, msgspec.json.encode(body))) as server:
        client = Alertmanager(Endpoint(url=server.url))
        try:
            return await client.alerts()
        finally:
            await client.aclose()


async def test_additions_of_newer_versions_are_read_or_ignored() -> None:
    """Mute time intervals suppress alerts, other time zones become UTC, and unknown keys and year 1 are harmless."""
    (alert,) = await _alerts_from([ALERT])
    assert alert.status.suppressed and alert.status.muted_by == ("weekend",)
    assert alert.starts_at == datetime(2026, 1, 2, 1, 4, 5, 123456, tzinfo=UTC)
    assert alert.starts_at.tzinfo is UTC
    assert alert.ends_at.year == 1


@pytest.mark.promise(5)
@pytest.mark.parametrize(
    "body",
    [
        None,
        {},
        [{}],
        [{**ALERT, "status": {"state": "paused"}}],
        [{**ALERT, "startsAt": "yesterday"}],
        [{**ALERT, "startsAt": "0001-01-01T00:00:00+02:00"}],
    ],
)
async def test_an_unknown_alert_state_is_an_error(body: Any) -> None:
    """An unknown alert state is an error and never means 'not suppressed'."""
    with pytest.raises(BadAnswer):
        await _alerts_from(body)


def test_label_names_that_need_quotes_are_quoted() -> None:
    """Names that need quotes are quoted for Alertmanager 0.27 and later. Classic names stay unquoted."""
    assert equals("label with space", "x") == '"label with space"="x"'
    assert str(matchers.Matcher('brace{"', Operator("!="), "y")) == '"brace{\\""!="y"'
    assert equals("größe", "1") == '"größe"="1"'
    assert equals("alertname", "A") == 'alertname="A"'


async def test_an_alert_with_a_quoted_label_name_is_found_without_an_error(
    client: Alertmanager, alertmanager: Server
) -> None:
    """The client sends only classic names, because Alertmanager 0.25 rejects a quoted name."""
    alertmanager.fire(alertname="A")
    await fetch(client, alertname="A")
    assert await exactly(client, {"alertname": "A", "label with space": "x"}) is None
