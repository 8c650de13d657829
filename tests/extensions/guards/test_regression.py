"""The guard ``regression``: compares a signal before and after a step, on a real Prometheus."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from remediator.clients.endpoints import Endpoint
from remediator.clients.prometheus.client import Prometheus as Client
from remediator.extensions.clientset import ClientSet
from remediator.extensions.guards.base import GuardAnswer, Phase
from remediator.pipeline.guard_evaluation import build_input, check_regression
from remediator.pipeline.run_context import RunContext
from remediator.storage.repositories.evidence import StoredVerdict
from tests.support.guard_history import INVENTORY, NOON, STEP, Harness, SetClock, playbook
from tests.support.servers.prometheus import Prometheus

pytestmark = pytest.mark.promise(12)


@asynccontextmanager
async def measuring(harness: Harness, value: float, make: Callable[..., Prometheus]) -> AsyncIterator[Harness]:
    """Return guards with a Prometheus that measured this value a second ago."""
    at = datetime.now(UTC)
    server = make(history=f"# TYPE errors gauge\nerrors {value} {at.timestamp() - 1:.3f}\n")
    clock = SetClock(at)
    client = Client(Endpoint(url=server.url, timeout=timedelta(seconds=30)))
    try:
        yield Harness(harness.store, clock, ClientSet(prometheus=client, clock=clock))
    finally:
        await client.aclose()


async def after(harness: Harness, before: float, **signal: Any) -> Any:
    chosen = playbook(guards={"regression": [{"promql": "errors", **signal}]})
    run = harness.run("run-1", chosen, "auto", None)
    asked = build_input(RunContext(harness.context, run, chosen, INVENTORY.service("redis")), (), STEP)
    noted = StoredVerdict(NOON, Phase.ACT, "restart", "regression", "allow", None, {"before": {"errors": before}})
    return (await check_regression(harness.context, asked, [noted])).final


async def test_it_blocks_what_is_worse_than_before(
    harness: Harness, make_prometheus: Callable[..., Prometheus]
) -> None:
    """If the errors double after the step, the guard blocks with both values."""
    async with measuring(harness, 10, make_prometheus) as looking:
        verdict = await after(looking, 5.0)

    assert verdict.sentence == "blocked: errors got worse: 5 before the step, 10 after it"


@pytest.mark.parametrize(
    ("before", "signal", "answer"),
    [
        (10.0, {}, GuardAnswer.ALLOW),
        (7.0, {}, GuardAnswer.ALLOW),
        (6.0, {}, GuardAnswer.BLOCK),
        (6.0, {"margin": 5.0}, GuardAnswer.ALLOW),
        (0.0, {}, GuardAnswer.BLOCK),
        (20.0, {"worse": "lower"}, GuardAnswer.BLOCK),
        (6.0, {"worse": "lower"}, GuardAnswer.ALLOW),
    ],
)
async def test_worse_has_a_direction_a_factor_and_a_margin(
    harness: Harness,
    make_prometheus: Callable[..., Prometheus],
    before: float,
    signal: dict[str, Any],
    answer: GuardAnswer,
) -> None:
    """By default, a value is worse if it is more than 1.5 times the earlier one; a margin and the direction can be
    set."""
    async with measuring(harness, 10, make_prometheus) as looking:
        assert (await after(looking, before, **signal)).answer is answer


async def test_the_value_before_a_step_is_recorded(
    harness: Harness, make_prometheus: Callable[..., Prometheus]
) -> None:
    """The inputs of the verdict record the value before the step."""
    async with measuring(harness, 10, make_prometheus) as looking:
        verdict = await looking.verdict("regression", [{"promql": "errors"}])

    assert verdict.answer is GuardAnswer.ALLOW
    assert verdict.inputs == {"before": {"errors": 10.0}}


async def test_what_cannot_be_measured_before_is_unknown(harness: Harness) -> None:
    """If the value cannot be measured before the step, a person is asked."""
    verdict = await harness.verdict("regression", [{"promql": "errors"}])

    assert (verdict.answer, verdict.reason) == (GuardAnswer.UNKNOWN, "not_measured")


async def test_it_allows_without_signals(harness: Harness) -> None:
    """Without signals, and at planning, the guard allows."""
    assert (await harness.verdict("regression")).answer is GuardAnswer.ALLOW
    planned = await harness.verdict("regression", [{"promql": "errors"}], step=None)
    assert planned.answer is GuardAnswer.ALLOW


async def test_an_unknown_value_after_the_step_is_not_a_regression(harness: Harness) -> None:
    """If Prometheus stops during the step, the answer is unknown and the step is not undone: the verification
    decides."""
    assert (await after(harness, 5.0)).answer is GuardAnswer.UNKNOWN
