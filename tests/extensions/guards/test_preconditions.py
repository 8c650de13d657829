"""Preconditions: PromQL and checks on a real Prometheus, where missing data is unknown, not *no*."""

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
from tests.support.guard_history import Harness, SetClock, plan_of
from tests.support.servers import free_port, until
from tests.support.servers.prometheus import Prometheus

pytestmark = pytest.mark.promise(5)

SELF = """
scrape_configs:
  - {job_name: self, static_configs: [{targets: [SELF]}]}
"""


@asynccontextmanager
async def asking(harness: Harness, url: str, timeout: float = 30) -> AsyncIterator[Harness]:
    client = Client(Endpoint(url=url, timeout=timedelta(seconds=timeout)))
    clock = SetClock(datetime.now(UTC))
    try:
        yield Harness(harness.store, clock, ClientSet(prometheus=client, clock=clock))
    finally:
        await client.aclose()


async def ask(harness: Harness, url: str, *conditions: dict[str, Any], **more: Any) -> Verdict:
    async with asking(harness, url) as asked:
        return await asked.verdict("preconditions", list(conditions), **more)


@pytest.fixture
def prometheus(make_prometheus: Callable[..., Prometheus]) -> Prometheus:
    """Return a Prometheus that has scraped itself."""
    server = make_prometheus(configuration=SELF)
    until(lambda: bool(server.query('up{job="self"} == 1')), "scraped")
    return server


async def test_it_allows_if_all_conditions_hold(harness: Harness, prometheus: Prometheus) -> None:
    """The guard allows if all conditions hold on fresh data; parameters are inserted as label values."""
    query = {"promql": 'up{job="${job}"} == 1', "max_age": "10s"}

    verdict = await ask(harness, prometheus.url, query, plan=plan_of(job="self"))

    assert verdict.answer is GuardAnswer.ALLOW


async def test_it_blocks_if_a_condition_does_not_hold(harness: Harness, prometheus: Prometheus) -> None:
    """If the data is fresh and the comparison has an empty result, the guard blocks."""
    verdict = await ask(harness, prometheus.url, {"promql": 'up{job="self"} == 0'})

    assert verdict.sentence == (
        'blocked: precondition up{job="self"} == 0 is not met: up{job="self"} == 0 does not hold'
    )


async def test_an_empty_vector_is_unknown(harness: Harness, prometheus: Prometheus) -> None:
    """If the series does not exist, the answer is unknown."""
    verdict = await ask(harness, prometheus.url, {"promql": "redis_up == 0"})

    assert (verdict.answer, verdict.reason) == (GuardAnswer.UNKNOWN, "no_data")
    assert "no data from the last 1m for redis_up" in verdict.text


async def test_stale_data_is_unknown(harness: Harness, make_prometheus: Callable[..., Prometheus]) -> None:
    """An old value does not prove the present state, so the answer is unknown."""
    old = datetime.now(UTC).timestamp() - 200
    server = make_prometheus(history=f"# TYPE redis_up gauge\nredis_up 0 {old:.3f}\n")

    verdict = await ask(harness, server.url, {"promql": "redis_up == 0"})

    assert (verdict.answer, verdict.reason) == (GuardAnswer.UNKNOWN, "no_data")


async def test_a_prometheus_that_is_down_is_unknown(harness: Harness) -> None:
    """If Prometheus does not answer, the condition is unknown."""
    server = f"127.0.0.1:{free_port()}"
    verdict = await ask(harness, f"http://{server}", {"promql": "up == 1"})

    assert (verdict.answer, verdict.reason) == (GuardAnswer.UNKNOWN, "no_data")
    assert "promql: " in verdict.text and server in verdict.text


async def test_a_prometheus_that_hangs_is_unknown(harness: Harness, prometheus: Prometheus) -> None:
    """The request to a stopped Prometheus ends at its timeout, and the answer is unknown."""
    prometheus.pause()

    async with asking(harness, prometheus.url, timeout=0.3) as asked:
        verdict = await asked.verdict("preconditions", [{"promql": "up == 1"}])

    assert (verdict.answer, verdict.reason) == (GuardAnswer.UNKNOWN, "no_data")


async def test_without_conditions_it_allows(harness: Harness) -> None:
    """Without preconditions in the playbook, the guard allows."""
    assert (await harness.verdict("preconditions")).answer is GuardAnswer.ALLOW


async def test_a_condition_can_require_a_failed_check(harness: Harness) -> None:
    """A condition can require that a check fails; if the check is unknown, the condition is unknown."""
    unknown = await harness.verdict("preconditions", [{"check": "redis.ping", "expect": "fail"}])

    assert (unknown.answer, unknown.reason) == (GuardAnswer.UNKNOWN, "no_data")


def test_a_condition_is_a_query_or_a_check() -> None:
    """A condition with both a query and a check, or with neither, is refused."""
    for wrong in ({}, {"promql": "up", "check": "redis.ping"}):
        with pytest.raises(ValueError, match="exactly one of promql and check"):
            PreconditionsSettings.model_validate([wrong])
