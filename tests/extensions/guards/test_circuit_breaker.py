"""The guard ``circuit_breaker``: after repeated failures or repeated need, a person is asked; one run may try again
later."""

from __future__ import annotations

from typing import Any

import pytest

from remediator.core.ids import Ids
from remediator.extensions.guards.base import GuardAnswer, RunSummary
from remediator.extensions.guards.circuit_breaker import CircuitBreaker
from remediator.storage.repositories import audit, autonomy, breakers, outbox, runs
from tests.support.guard_history import HOUR, MINUTE, NOON, Harness, playbook

pytestmark = pytest.mark.promise(12)


async def fails(harness: Harness, count: int, first: int = 0) -> None:
    for number in range(first, first + count):
        at = NOON - (30 - number) * MINUTE
        await harness.acted(f"run-{number}", at, target=f"web-{number}", status_="failed")


async def learn(harness: Harness, run_id: str, settings: Any = None) -> None:
    guard = next(item for item in harness.context.guards if isinstance(item, CircuitBreaker))

    def work(tx: Any) -> None:
        run = runs.get(tx.connection, run_id)
        assert run is not None
        chosen = CircuitBreaker.Settings.model_validate(settings or {})
        guard.on_run_finished(tx, RunSummary(run, playbook(), "auto", chosen, Ids(), "remediator/replica-1"))

    await harness.write(work)


async def test_failures_in_a_row_open_it(harness: Harness) -> None:
    """After three failed runs on any targets, the guard requires an approval."""
    await fails(harness, 3)

    verdict = await harness.verdict("circuit_breaker")

    assert verdict.answer is GuardAnswer.UNKNOWN
    assert verdict.sentence == (
        "unknown: circuit breaker of redis-down open: 3 runs in a row did not heal (run-0, run-1, run-2); "
        "approval needed until 12:33:00Z"
    )
    assert verdict.inputs["half_open"] == "2026-03-04T12:33:00+00:00"


async def test_it_allows_after_a_success(harness: Harness) -> None:
    """Two failures, a success and two failures are not three failures in a row. Cancelled runs do not count."""
    await fails(harness, 2)
    await harness.acted("run-good", NOON - 28 * MINUTE + MINUTE / 2)
    await fails(harness, 2, first=4)
    await harness.acted("run-off", NOON - MINUTE, status_="cancelled")

    assert (await harness.verdict("circuit_breaker")).answer is GuardAnswer.ALLOW


async def test_a_remedy_that_is_repeated_too_often_opens_it(harness: Harness) -> None:
    """After three successful runs in six hours, the remedy does not fix the cause, so a person is asked."""
    for number in range(3):
        await harness.acted(f"run-{number}", NOON - (number + 1) * HOUR)

    verdict = await harness.verdict("circuit_breaker")

    assert (verdict.answer, verdict.reason) == (GuardAnswer.UNKNOWN, "ineffective")
    assert verdict.text == (
        "circuit breaker of redis-down open: redis was healed 3 times in 6h and failed again (run-2, run-1, run-0); "
        "approval needed until 15:01:00Z"
    )
    assert (await harness.verdict("circuit_breaker", target="app")).answer is GuardAnswer.ALLOW


async def test_half_open_allows_one_trial_run(harness: Harness) -> None:
    """After the timer, one run may act automatically; the next run waits for its result."""
    await fails(harness, 3)
    harness.clock.time = NOON + 33 * MINUTE
    assert (await harness.verdict("circuit_breaker")).answer is GuardAnswer.ALLOW
    await harness.acted("run-trial", NOON + 33 * MINUTE, target="app", status_="running")

    verdict = await harness.verdict("circuit_breaker")

    assert (
        verdict.sentence
        == "blocked: circuit breaker of redis-down is half open: waiting for the result of run run-trial"
    )
    assert (await harness.verdict("circuit_breaker", run_id="run-trial")).answer is GuardAnswer.ALLOW


async def test_a_trial_that_fails_opens_it_again(harness: Harness) -> None:
    """The failed trial starts the timer again."""
    await fails(harness, 3)
    harness.clock.time = NOON + 2 * HOUR
    await harness.acted("run-trial", NOON + HOUR, status_="escalated", ended=NOON + 2 * HOUR)

    verdict = await harness.verdict("circuit_breaker")

    assert (verdict.reason, verdict.until) == ("failing", NOON + 3 * HOUR)


async def test_without_a_timer_only_a_person_resets_it(harness: Harness) -> None:
    """Without a timer, only a person closes the breaker, with an audit entry; earlier failures do not count after
    that."""
    await fails(harness, 3)
    harness.clock.time = NOON + 100 * HOUR
    settings = {"half_open_after": None}
    assert (await harness.verdict("circuit_breaker", settings)).text.endswith(
        "approval needed until a person resets it"
    )

    await harness.write(lambda tx: breakers.reset(tx, "redis-down", "user:ann", "new release"))

    assert (await harness.verdict("circuit_breaker", settings)).answer is GuardAnswer.ALLOW


async def test_opening_is_reported_and_recorded(harness: Harness) -> None:
    """The run that opens the breaker sends one notice to the channels of the playbook; other runs send none."""
    await fails(harness, 3)

    await learn(harness, "run-2")
    await harness.acted("run-cancelled", NOON, status_="cancelled")
    await learn(harness, "run-cancelled")

    told = await harness.store.read(lambda connection: outbox.list_due(connection, harness.clock.now()))
    kinds = await harness.store.read(lambda connection: [item.kind for item in audit.iterate(connection)])
    assert [(item.channel, item.kind) for item in told] == [("oncall", "notice")]
    assert told[0].content["text"].endswith("(run-0, run-1, run-2); every further run asks for approval")
    assert kinds == ["circuit_breaker.tripped"]


async def test_opening_twice_demotes_the_playbook(harness: Harness) -> None:
    """If the breaker opens twice within a week, the playbook is lowered to ``approve``, and only a person can raise
    it."""
    await fails(harness, 4)
    await learn(harness, "run-2")
    await learn(harness, "run-3")

    place = await harness.store.read(lambda connection: autonomy.get_override(connection, "redis-down"))

    assert place is not None
    assert (place.mode, place.reason) == ("approve", "circuit breaker opened 2 times in 7d")
