"""Health: a stopped loop and an inbox without progress are found, and failures of observers are counted."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from typing import Any

import pytest

from remediator.core import progress
from remediator.core.run import Run
from remediator.runtime.event_observers import EventObservers
from remediator.runtime.health import RECENT, STALL, Health
from remediator.runtime.worker import run_supervised

pytestmark = [pytest.mark.promise(14), pytest.mark.unit]


class Time:
    """A monotonic clock that the test advances."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def health(time: Time) -> Health:
    return Health(monotonic=time)


async def run_until_waiting(name: str, health: Health, loop: Any) -> asyncio.Task[None]:
    """Run a supervised loop until it waits."""
    task = asyncio.create_task(run_supervised(name, loop, asyncio.sleep, health))
    await asyncio.sleep(0.01)
    return task


async def test_a_loop_that_hangs_is_degraded_and_only_ingest_stops_the_intake(health: Health, time: Time) -> None:
    """A loop without progress makes the service degraded. Only the ingest loop makes it refuse notifications."""

    async def hang() -> None:
        progress.report()
        await asyncio.Event().wait()

    tasks = [await run_until_waiting(name, health, hang) for name in ("outbox", "ingest")]
    assert not health.problems()
    assert not health.intake_problem()
    time.now += STALL + 1
    assert set(health.problems()) == {"loop outbox", "loop ingest", "intake"}
    assert "not been processed" in health.intake_problem()
    for task in tasks:
        task.cancel()


async def test_a_loop_may_announce_a_pause(health: Health, time: Time) -> None:
    """A loop that announced a pause is not reported until the pause and the usual limit are over."""

    async def rest() -> None:
        progress.report(600)
        await asyncio.Event().wait()

    task = await run_until_waiting("reconcile", health, rest)
    time.now += 600
    assert not health.problems()
    time.now += STALL + 1
    assert list(health.problems()) == ["loop reconcile"]
    task.cancel()


async def test_a_loop_that_fails_is_degraded_until_it_makes_progress(health: Health) -> None:
    """A loop that raised an exception is reported with its error until it makes progress again."""
    broken = True

    async def work() -> None:
        if broken:
            raise RuntimeError("the disk is broken")
        progress.report()
        await asyncio.Event().wait()

    task = await run_until_waiting("outbox", health, work)
    assert health.problems() == {"loop outbox": "failed, starts again: the disk is broken"}
    broken = False
    for _ in range(200):
        if not health.problems():
            break
        await asyncio.sleep(0.01)
    assert not health.problems()
    task.cancel()


def test_only_an_inbox_without_progress_stops_the_intake(health: Health, time: Time) -> None:
    """Notifications are refused only while the same one is the oldest in the inbox for too long."""
    for number in range(10):  # during a flood, there is always a waiting notification, but not always the same one
        health.inbox_is((1, number))
        time.now += STALL / 2
    assert not health.intake_problem()
    time.now += STALL + 1
    health.inbox_is((1, 9))
    assert health.intake_problem()
    health.inbox_is(None)
    assert not health.intake_problem()


def test_a_loss_is_counted_and_shown_for_a_while_after_it_works_again(health: Health, time: Time) -> None:
    """Losses are counted from the start of the service, and shown for some time after the recovery."""
    health.lost("channel ops", "connection refused")
    health.lost("channel ops", "connection refused")
    assert health.problems() == {"channel ops": "2 lost since the start: connection refused"}
    health.works("channel ops")
    assert health.problems() == {"channel ops": "2 lost since the start: works again"}
    time.now += RECENT + 1
    assert not health.problems()
    assert health.losses["channel ops"].count == 2


def test_an_observer_that_counts_for_itself_is_shown(health: Health) -> None:
    """The losses that an observer counts itself are shown with their number and error."""
    found = (3, "No space left on device")
    health.counters["log"] = lambda: found
    assert health.problems() == {"log": "3 lost since the start: No space left on device"}


RUN: Any = object()


def test_a_failing_observer_does_not_keep_others_from_the_event() -> None:
    """If one observer raises an exception, the others get each event, and the losses are counted."""
    seen: list[str] = []

    def broken(kind: str, run: Run, data: Mapping[str, Any]) -> None:
        raise OSError("no space left on device")

    events = EventObservers((broken, lambda kind, run, data: seen.append(kind)))
    events("action", RUN, {})
    events("transition", RUN, {})
    assert events.drain()
    assert seen == ["action", "transition"]
    assert events.lost == 2
    assert "no space" in events.error


def test_a_hung_observer_does_not_block_the_caller() -> None:
    """If an observer hangs, the caller continues, and events beyond the limit are lost and counted."""
    hangs = threading.Event()
    events = EventObservers((lambda kind, run, data: hangs.wait(30) and None,), max_waiting=10)
    for _ in range(50):
        events("action", RUN, {})
    assert events.lost >= 39
    assert events.error == "an observer of events is too slow"
    hangs.set()
    assert events.drain(5)
