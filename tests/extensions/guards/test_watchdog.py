"""The guard ``watchdog``: without the Watchdog alert, alerts may be missing; people are notified once, by other
channels."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from remediator.extensions.guards.base import GuardAnswer
from remediator.runtime.monitors import MonitorSettings, run_monitors
from remediator.storage.repositories import audit, outbox
from tests.support.guard_history import HOUR, MINUTE, NOON, Harness

pytestmark = pytest.mark.promise(5)


async def test_it_allows_while_the_watchdog_arrives(harness: Harness) -> None:
    """If the Watchdog was received within its interval, the guard allows."""
    await harness.hear_watchdog(NOON - 4 * MINUTE)

    assert (await harness.verdict("watchdog")).answer is GuardAnswer.ALLOW


async def test_it_blocks_when_the_view_is_stale(harness: Harness) -> None:
    """If the Watchdog was not received within its interval, the guard blocks and reports when it was last received."""
    await harness.hear_watchdog(NOON - 6 * MINUTE)

    verdict = await harness.verdict("watchdog")

    assert verdict.sentence == (
        "blocked: the last Watchdog was received 6m ago, at 11:54:00Z (limit 5m): alerts may not arrive"
    )


async def test_it_blocks_when_it_stopped_firing(harness: Harness) -> None:
    """A resolved Watchdog blocks, because the alert must always fire."""
    await harness.hear_watchdog(NOON, firing=False)

    assert (await harness.verdict("watchdog")).reason == "not_firing"


async def test_a_watchdog_that_never_arrived_is_unknown(harness: Harness) -> None:
    """If no Watchdog was ever received, a person is asked."""
    verdict = await harness.verdict("watchdog")

    assert (verdict.answer, verdict.reason) == (GuardAnswer.UNKNOWN, "never_heard")


async def test_a_clock_that_jumps_forward_makes_the_view_stale(harness: Harness) -> None:
    """After a clock jump of an hour, the guard blocks until the next Watchdog arrives."""
    await harness.hear_watchdog(NOON)
    harness.clock.time = NOON + HOUR

    assert (await harness.verdict("watchdog")).reason == "stale"


async def test_a_clock_that_jumps_back_is_unknown(harness: Harness) -> None:
    """A Watchdog with a time in the future makes the answer unknown."""
    await harness.hear_watchdog(NOON)
    harness.clock.time = NOON - HOUR

    verdict = await harness.verdict("watchdog")

    assert (verdict.answer, verdict.reason) == (GuardAnswer.UNKNOWN, "clock_jumped")


async def test_people_are_notified_once_of_its_loss_and_once_of_its_return(harness: Harness, tmp_path: Path) -> None:
    """Each change sends one notice to the channels of the Watchdog and writes one audit entry, however often it is
    checked."""
    watching = MonitorSettings(tmp_path, timedelta(minutes=5), ("pager",), None)
    await harness.hear_watchdog(NOON)
    for minutes in (1, 6, 7, 8, 9):
        harness.clock.time = NOON + minutes * MINUTE
        await run_monitors(harness.context, watching)
    await harness.hear_watchdog(NOON + 10 * MINUTE)
    for minutes in (10, 11):
        harness.clock.time = NOON + minutes * MINUTE
        await run_monitors(harness.context, watching)

    told = await harness.store.read(lambda connection: outbox.list_due(connection, harness.clock.now()))
    kinds = await harness.store.read(lambda connection: [item.kind for item in audit.iterate(connection)])

    texts = [(item.channel, item.kind, item.content["text"].split(":")[0]) for item in told]
    assert texts == [("pager", "notice", "Watchdog lost"), ("pager", "notice", "Watchdog received again")]
    assert [kind for kind in kinds if kind.startswith("watchdog.")] == ["watchdog.lost", "watchdog.returned"]
