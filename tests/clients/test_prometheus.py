"""The client of Prometheus, against a real Prometheus."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from remediator.clients.endpoints import Endpoint
from remediator.clients.prometheus.client import Prometheus, PrometheusRefused
from remediator.clients.prometheus.promql import escape_value, selector
from remediator.errors import BadAnswer, Refused, TimedOut, Unreachable
from tests.support.fake_servers import peer, reply
from tests.support.servers.prometheus import Prometheus as Server

Connect = Callable[..., Prometheus]
Make = Callable[..., Server]
NASTY = "a\"b\\c'd`e,f}é"
RULES = r"""
groups:
  - name: test
    rules:
      - {record: nasty, expr: vector(7), labels: {value: "a\"b\\c'd`e,f}é"}}
      - {alert: Always, expr: vector(1), labels: {severity: critical}, annotations: {summary: s}}
      - {alert: Waiting, expr: vector(1), for: 1h}
      - {alert: Never, expr: vector(1) < 0}
"""
SCRAPES = """
scrape_configs:
  - {job_name: good, static_configs: [{targets: [SELF]}]}
  - {job_name: bad, static_configs: [{targets: ["127.0.0.1:1"]}]}
"""


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    """Return a function that makes clients. They are closed after the test."""
    made: list[Prometheus] = []

    def make(url: str, **settings: Any) -> Prometheus:
        made.append(Prometheus(Endpoint.model_validate({"url": url, **settings})))
        return made[-1]

    yield make
    for client in made:
        await client.aclose()


async def eventually(seen: Callable[[], Awaitable[object]], seconds: float = 60) -> None:
    """Poll until the result is true."""
    async with asyncio.timeout(seconds):
        while not await seen():
            await asyncio.sleep(0.05)


async def test_an_instant_query_gives_values_with_their_labels(prometheus: Server, connect: Connect) -> None:
    """A query returns values with labels, also for scalars and for NaN and infinity, which JSON lacks."""
    client = connect(prometheus.url)
    vector = await client.query("vector(2.5)")
    assert [(each.labels, each.value) for each in vector.samples] == [({}, 2.5)]
    assert abs(datetime.now(UTC) - vector.samples[0].at) < timedelta(seconds=30)
    assert (await client.query("3")).samples[0].value == 3
    assert (await client.query("vector(1) / 0")).samples[0].value == math.inf
    assert math.isnan((await client.query("vector(0) / 0")).samples[0].value)
    past = datetime(2020, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)
    assert (await client.query("time()", past)).samples[0].value == pytest.approx(past.timestamp())


@pytest.mark.promise(5)
async def test_no_data_is_an_empty_vector_and_not_an_error(prometheus: Server, connect: Connect) -> None:
    """Without data, the result is empty and false."""
    vector = await connect(prometheus.url).query("no_such_metric == 0")
    assert not vector and vector.samples == ()


async def test_a_refusal_has_the_reason_of_prometheus(prometheus: Server, connect: Connect) -> None:
    """If a query cannot be parsed or executed, or has the wrong type, the error has the reason of Prometheus."""
    client = connect(prometheus.url)
    with pytest.raises(PrometheusRefused, match="parse error") as refused:
        await client.query("up{")
    assert refused.value.error_type == "bad_data"
    with pytest.raises(PrometheusRefused) as refused:
        await client.query('label_replace(vector(1), "a", "", "", "[")')
    assert refused.value.error_type == "execution"
    with pytest.raises(BadAnswer, match="string"):
        await client.query('"text"')
    with pytest.raises(BadAnswer, match="matrix"):
        await client.query("up[5m]")


async def test_an_evaluation_timeout_in_prometheus_is_timed_out(make_prometheus: Make, connect: Connect) -> None:
    """A timeout in Prometheus is TimedOut and not a refusal: a later query may succeed."""
    server = make_prometheus(flags=["--query.timeout=1ms"])
    with pytest.raises(TimedOut):
        await connect(server.url).query(" + ".join(["quantile_over_time(0.5, vector(time())[12h:1s])"] * 3))


async def test_a_long_query_is_sent_whole(prometheus: Server, connect: Connect) -> None:
    """A query that is longer than any URL is sent completely."""
    query = " or ".join(f'label_replace(vector({number}), "n", "{number}", "", "")' for number in range(500))
    assert len(query) > 20_000
    assert len((await connect(prometheus.url).query(query)).samples) == 500


async def test_alerts_rules_and_history(make_prometheus: Make, connect: Connect) -> None:
    """The client reads firing, pending and inactive rules. The series ALERTS shows since when an alert fires."""
    started = datetime.now(UTC)
    server = make_prometheus(rules=RULES)
    client = connect(server.url)

    async def firing() -> bool:
        return {each.state for each in await client.alerts()} == {"firing", "pending"}

    await eventually(firing)
    alert = next(each for each in await client.alerts() if each.state == "firing")
    assert alert.labels == {"alertname": "Always", "severity": "critical"}
    assert alert.annotations == {"summary": "s"}
    (group,) = await client.alert_rules()
    assert {rule.name: rule.state for rule in group.rules} == {
        "Always": "firing",
        "Waiting": "pending",
        "Never": "inactive",
    }
    assert {rule.duration for rule in group.rules} == {0, 3600}
    step = timedelta(milliseconds=100)

    async def history() -> Any:
        return await client.firing_history({"severity": "critical"}, started, datetime.now(UTC), step)

    await eventually(history)
    (series,) = await history()
    assert series.labels["alertname"] == "Always"
    assert all(value == 1 for _, value in series.points)
    assert all(
        later - earlier == step for (earlier, _), (later, _) in zip(series.points, series.points[1:], strict=False)
    )


@pytest.mark.promise(8)
async def test_a_label_value_cannot_leave_its_quotes(make_prometheus: Make, connect: Connect) -> None:
    """A selector for any label value, in either kind of quotes, finds exactly that series."""
    client = connect(make_prometheus(rules=RULES).url)

    async def found() -> Any:
        return await client.query(selector("nasty", {"value": NASTY}))

    await eventually(found)
    assert (await found()).samples[0].labels["value"] == NASTY
    assert await client.query(f"nasty{{value='{escape_value(NASTY)}'}}")
    assert not await client.query(selector("nasty", {"value": NASTY + "x"}))


async def test_targets_report_their_health(make_prometheus: Make, connect: Connect) -> None:
    """A target that answers is up. Another one is down, with the reason."""
    client = connect(make_prometheus(configuration=SCRAPES).url)

    async def scraped() -> bool:
        return sorted(each.health for each in await client.targets()) == ["down", "up"]

    await eventually(scraped)
    bad, good = sorted(await client.targets(), key=lambda each: each.health)
    assert (good.labels["job"], good.last_error) == ("good", "")
    assert bad.scrape_url == "http://127.0.0.1:1/metrics"
    assert "refused" in bad.last_error


def backfill(now: datetime, *ages: float, metric: str = "redis_up") -> str:
    lines = [f'{metric}{{instance="a"}} 1 {now.timestamp() - age:.3f}' for age in sorted(ages, reverse=True)]
    return "\n".join([f"# TYPE {metric} gauge", *lines, ""])


@pytest.mark.promise(5)
async def test_old_data_is_known_to_be_old(make_prometheus: Make, connect: Connect) -> None:
    """Two minutes after the last scrape, the value still exists, and its freshness shows the time of the scrape."""
    now = datetime.now(UTC)
    history = backfill(now, 240, 180, 120) + backfill(now, 30, metric="redis_load")
    client = connect(make_prometheus(history=history).url)
    assert (await client.query("redis_up == 1", now)).samples[0].at == now.replace(
        microsecond=now.microsecond // 1000 * 1000
    )
    up, load, nothing = await client.freshness("redis_up == 1 and redis_load > 0 or absent_metric", now)
    assert (up.selector, load.selector, nothing.selector) == ("redis_up", "redis_load", "absent_metric")
    assert up.newest is not None and abs((now - up.newest).total_seconds() - 120) < 0.01
    assert load.newest is not None and abs((now - load.newest).total_seconds() - 30) < 0.01
    assert nothing.newest is None and nothing.oldest is None


async def test_raw_samples_come_with_the_time_they_were_taken(make_prometheus: Make, connect: Connect) -> None:
    """Raw samples have the time of their scrape and not the time of the query."""
    now = datetime.now(UTC)
    client = connect(make_prometheus(history=backfill(now, 240, 180, 120)).url)
    (series,) = await client.samples('redis_up{instance="a"}', timedelta(seconds=200), now)
    assert [round((now - at).total_seconds()) for at, _ in series.points] == [180, 120]


async def test_a_long_range_is_queried_in_parts(prometheus: Server, connect: Connect) -> None:
    """A range with too many steps is queried in parts and returned as one series, with each instant once."""
    end = datetime(2026, 1, 1, tzinfo=UTC)
    start = end - timedelta(seconds=25_000)
    (series,) = await connect(prometheus.url).query_range("vector(1)", start, end, timedelta(seconds=1))
    assert len(series.points) == 25_001
    assert (series.points[0][0], series.points[-1][0]) == (start, end)
    assert len({at for at, _ in series.points}) == 25_001


async def test_a_route_prefix_version_and_readiness(make_prometheus: Make, connect: Connect) -> None:
    """Prometheus answers behind /team/prom. Without the prefix, the client reports a refusal."""
    server = make_prometheus(prefix="/team/prom")
    client = connect(server.url)
    await client.ready()
    assert (await client.version())[0].isdigit()
    with pytest.raises(Refused):
        await connect(f"http://127.0.0.1:{server.port}").version()


@pytest.mark.promise(5)
async def test_a_hung_prometheus_is_timed_out_and_a_dead_one_unreachable(prometheus: Server, connect: Connect) -> None:
    """A hung Prometheus is TimedOut and a dead one Unreachable. Neither is an empty vector."""
    client = connect(prometheus.url, timeout="300ms")
    prometheus.pause()
    with pytest.raises(TimedOut):
        await client.query("up")
    prometheus.kill()
    with pytest.raises(Unreachable):
        await client.query("up")


def ok(data: Any, **more: Any) -> bytes:
    return json.dumps({"status": "success", "data": data, **more}).encode()


def vector(*items: Any) -> Any:
    return {"resultType": "vector", "result": list(items)}


@pytest.mark.promise(5)
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>login</html>",
        b"{}",
        b'{"status":"error","error":"x"}',
        ok(None),
        ok({"resultType": "vector", "result": None}),
        ok({"resultType": "tensor", "result": []}),
        ok(vector({"metric": {}})),
        ok(vector({"metric": {}, "value": [1, "one"]})),
        ok(vector({"metric": {}, "value": [1e300, "1"]})),
        ok(vector({"metric": {}, "histogram": [1, {}]})),
    ],
)
async def test_an_invalid_answer_is_never_an_empty_vector(body: bytes, connect: Connect) -> None:
    """A login page, an error with status 200, or another structure is a BadAnswer."""
    async with peer(reply(200, body)) as server:
        with pytest.raises(BadAnswer):
            await connect(server.url).query("up")


async def test_warnings_of_a_partial_answer_are_kept(connect: Connect) -> None:
    """The result keeps the warning of a gateway about a server that did not answer."""
    body = ok(vector({"metric": {}, "value": [1, "1"]}), warnings=["store b did not answer"])
    async with peer(reply(200, body)) as server:
        assert (await connect(server.url).query("up")).warnings == ("store b did not answer",)


async def test_an_error_page_of_a_proxy_is_a_refusal(connect: Connect) -> None:
    """The error states that a proxy answered and not Prometheus."""
    async with peer(reply(503, b"<html>maintenance</html>")) as server:
        with pytest.raises(Refused, match="maintenance"):
            await connect(server.url).query("up")
