"""Preconditions: PromQL and probes, where no data is not *no*. On a real Prometheus that fails in real ways."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from remediator.clients.endpoints import Endpoint
from remediator.clients.prometheus.client import Prometheus as Client
from remediator.extensions.clientset import ClientSet
from remediator.extensions.guards.base import GuardAnswer, Verdict
from remediator.extensions.guards.preconditions import PreconditionsSettings
from tests.support.guard_history import House, SetClock, plan_of
from tests.support.servers import free_port, until
from tests.support.servers.prometheus import Prometheus

pytestmark = pytest.mark.promise(5)

SELF = """
scrape_configs:
  - {job_name: self, static_configs: [{targets: [SELF]}]}
"""


@asynccontextmanager
async def asking(house: House, url: str, timeout: float = 2) -> AsyncIterator[House]:
    client = Client(Endpoint(url=url, timeout=timedelta(seconds=timeout)))
    clock = SetClock(datetime.now(UTC))
    try:
        yield House(house.store, clock, ClientSet(prometheus=client, clock=clock))
    finally:
        await client.aclose()


async def ask(house: House, url: str, *conditions: dict[str, Any], **more: Any) -> Verdict:
    async with asking(house, url) as asked:
        return await asked.verdict("preconditions", list(conditions), **more)


@pytest.fixture
def prometheus(make_prometheus: Callable[..., Prometheus]) -> Prometheus:
    """One that has scraped itself."""
    server = make_prometheus(configuration=SELF)
    until(lambda: bool(server.query('up{job="self"} == 1')), "scraped")
    return server


async def test_it_allows_what_holds(house: House, prometheus: Prometheus) -> None:
    """All conditions hold on fresh data; parameters are filled in as label values."""
    query = {"promql": 'up{job="${job}"} == 1', "max_age": "10s"}

    verdict = await ask(house, prometheus.url, query, plan=plan_of(job="self"))

    assert verdict.answer is GuardAnswer.ALLOW


async def test_it_blocks_what_does_not_hold(house: House, prometheus: Prometheus) -> None:
    """Fresh data say no: an empty result of a comparison over data that is there."""
    verdict = await ask(house, prometheus.url, {"promql": 'up{job="self"} == 0'})

    assert verdict.sentence == (
        'blocked: precondition up{job="self"} == 0 is not met: up{job="self"} == 0 does not hold'
    )


async def test_an_empty_vector_is_unknown(house: House, prometheus: Prometheus) -> None:
    """No such series at all: a Prometheus that knows nothing does not say that all is well."""
    verdict = await ask(house, prometheus.url, {"promql": "redis_up == 0"})

    assert (verdict.answer, verdict.reason) == (GuardAnswer.UNKNOWN, "no_data")
    assert "no data from the last 1m for redis_up" in verdict.text


async def test_stale_data_is_unknown(house: House, make_prometheus: Callable[..., Prometheus]) -> None:
    """A value that was measured minutes ago says nothing of now."""
    old = datetime.now(UTC).timestamp() - 200
    server = make_prometheus(history=f"# TYPE redis_up gauge\nredis_up 0 {old:.3f}\n")

    verdict = await ask(house, server.url, {"promql": "redis_up == 0"})

    assert (verdict.answer, verdict.reason) == (GuardAnswer.UNKNOWN, "no_data")


async def test_a_prometheus_that_is_down_is_unknown(house: House) -> None:
    """Nobody answers: nobody can tell."""
    server = f"127.0.0.1:{free_port()}"
    verdict = await ask(house, f"http://{server}", {"promql": "up == 1"})

    assert (verdict.answer, verdict.reason) == (GuardAnswer.UNKNOWN, "no_data")
    assert "promql: " in verdict.text and server in verdict.text


async def test_a_prometheus_that_hangs_is_unknown(house: House, prometheus: Prometheus) -> None:
    """A stopped Prometheus is given up after its timeout."""
    prometheus.pause()

    async with asking(house, prometheus.url, timeout=0.3) as asked:
        verdict = await asked.verdict("preconditions", [{"promql": "up == 1"}])

    assert (verdict.answer, verdict.reason) == (GuardAnswer.UNKNOWN, "no_data")


async def test_without_conditions_it_allows(house: House) -> None:
    """Nothing is asked for by default."""
    assert (await house.verdict("preconditions")).answer is GuardAnswer.ALLOW


async def test_a_probe_has_to_give_the_answer_that_is_expected(house: House) -> None:
    """A check may have to fail: a remedy for what is broken needs it broken; and it may not be able to tell."""
    unknown = await house.verdict("preconditions", [{"check": "redis.ping", "expect": "fail"}])

    assert (unknown.answer, unknown.reason) == (GuardAnswer.UNKNOWN, "no_data")


def test_a_condition_is_one_thing() -> None:
    """Both a query and a check, or neither, is refused."""
    for wrong in ({}, {"promql": "up", "check": "redis.ping"}):
        with pytest.raises(ValueError, match="exactly one of promql and check"):
            PreconditionsSettings.model_validate([wrong])
