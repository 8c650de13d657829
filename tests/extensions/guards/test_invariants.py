"""Invariants of the guards: they hold for every order of alerts, steps and clock changes."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from remediator.core.run import Run
from remediator.errors import Fenced
from remediator.extensions.guards._windows import Window
from remediator.pipeline.context import PipelineContext
from remediator.pipeline.stages import advance
from remediator.playbooks.model import Playbook
from remediator.storage.repositories import run_claims, runs, stops
from remediator.storage.sqlite import SqliteStore
from tests.support.fleet import Begun, Health, begun, breaks, context, holding, remedy
from tests.support.guard_history import NOON, SetClock
from tests.support.stores import new_store

pytestmark = [pytest.mark.promise(12), pytest.mark.long]

FREEZE = {"name": "lunch", "days": "mon-sun", "from": "12:30", "to": "12:45"}
GUARDS: dict[str, Any] = {
    "freeze": {"windows": [FREEZE]},
    "cooldown": "4m",
    "rate_limit": {"target": ["1/8m", "2/1h"], "playbook": ["2/20m"], "global": ["3/20m"]},
    "concurrency": {"global": 2, "playbook": 1},
    "ramp": [1, 2],
    "circuit_breaker": {"failures": 50, "ineffective": "50/1h"},
}
PLAYBOOKS = [remedy(name, GUARDS) for name in ("one", "two")]
TARGETS = ("web-0", "web-1", "web-2", "redis", "app")

_UTC = ZoneInfo("UTC")

Event = tuple[str, int]
events = st.lists(
    st.one_of(
        st.tuples(st.just("alert"), st.integers(0, len(PLAYBOOKS) * len(TARGETS) - 1)),
        st.tuples(st.just("claim"), st.integers(1, 4)),
        st.tuples(st.just("advance"), st.integers(0, 7)),
        st.tuples(st.just("advance"), st.integers(0, 7)),
        st.tuples(st.just("rush"), st.integers(1, 2**10 - 1)),
        st.tuples(st.just("all"), st.just(0)),
        st.tuples(st.just("all"), st.just(0)),
        st.tuples(st.just("wait"), st.sampled_from([1, 2, 3, 5, 30, 60, 240, 300, 600])),
        st.tuples(st.just("jump"), st.sampled_from([-3600, -60, 600])),
        st.tuples(st.just("stop"), st.integers(0, 1)),
        st.tuples(st.just("over"), st.integers(0, 9)),
    ),
    min_size=10,
    max_size=60,
)


class HistoryRunner:
    """Run a history of events, and check the invariants after each event."""

    def __init__(self, engine_: PipelineContext, clock: SetClock, health: Health) -> None:
        self.context = engine_
        self.clock = clock
        self.health = health
        self.hands: list[Run] = []
        self.number = 0
        self.seen: set[tuple[str, Any]] = set()
        self.stopped = False
        self.stops = 0

    async def happen(self, event: Event) -> None:
        kind, value = event
        await getattr(self, f"_{kind}")(value)
        await self._check()

    async def _alert(self, value: int) -> None:
        target = TARGETS[value % len(TARGETS)]
        self.health.well.discard(target)
        self.number += 1
        await breaks(self.context, PLAYBOOKS[value // len(TARGETS)], target, self.number)

    async def _rush(self, which: int) -> None:
        """Many alerts fire at once, and earlier incidents of the same targets are closed."""
        for number in range(len(PLAYBOOKS) * len(TARGETS)):
            if which >> number & 1:
                await self._over(number)
                await self._alert(number)
        await self._claim(10)

    async def _claim(self, limit: int) -> None:
        lease = self.context.timeouts.lease
        self.hands += await self.context.store.write(lambda tx: run_claims.claim_due(tx, "replica", lease, limit))

    async def _advance(self, value: int) -> None:
        if not self.hands:
            return
        run = self.hands.pop(value % len(self.hands))
        try:
            progress = await advance(self.context, run)
            if not progress.waits:
                self.hands.append(progress.run)
            elif progress.run.finished_at is None:
                wakeup_count, until = run.wakeup_count, progress.until
                await self.context.store.write(lambda tx: run_claims.release(tx, progress.run, until, wakeup_count))
        except Fenced:
            return  # the clock has passed the lease, so another replica may have the run

    async def _all(self, value: int) -> None:
        await self._claim(10)
        for _ in range(40):
            if not self.hands:
                return
            await self._advance(0)
            await self._check()

    async def _wait(self, seconds: int) -> None:
        self.clock.time += timedelta(seconds=seconds)

    _jump = _wait

    async def _stop(self, value: int) -> None:
        if self.stopped:
            await self.context.store.write(lambda tx: stops.release(tx, f"stop-{self.stops}", "user:ann"))
        else:
            self.stops += 1
            await self.context.store.write(
                lambda tx: stops.create(tx, f"stop-{self.stops}", "global", "", "because", "user:ann")
            )
        self.stopped = not self.stopped

    async def _over(self, value: int) -> None:
        """Close an incident, so the next alert starts a new one."""
        found = await self.context.store.read(lambda connection: runs.list_page(connection, 100))
        finished = [run.id for run in found if run.finished_at is not None and run.incident_open]
        if finished:
            chosen = finished[value % len(finished)]
            await self.context.store.write(lambda tx: runs.close_incident(tx, [chosen]))

    async def _check(self) -> None:
        done = await begun(self.context.store)
        for item in done:
            if (item.run, item.at) not in self.seen:
                self.seen.add((item.run, item.at))
                assert not self.stopped, f"{item} was begun while everything was stopped"
                _assert_allowed(item, [other for other in done if other != item])
        held = await holding(self.context.store)
        assert len(held) <= 2
        for playbook in PLAYBOOKS:
            assert sum(1 for run in held if run.playbook == playbook.name) <= 1


def _assert_allowed(new: Begun, others: Sequence[Begun]) -> None:
    """Assert that no earlier action forbids the new one; an action with a future time, after a clock jump, counts
    too."""
    others = [item for item in others if item.run != new.run]

    def count(minutes: int, same: Any) -> int:
        since = new.at - timedelta(minutes=minutes)
        return len({item.run for item in others if item.at > since and same(item)})

    assert Window.model_validate(FREEZE).covering(new.at, _UTC) is None, f"{new} was begun during a freeze"
    assert count(4, lambda item: item.target == new.target) == 0, f"{new} was begun during a cooldown"
    assert count(8, lambda item: item.target == new.target) < 1, f"{new} overdraws 1/8m"
    assert count(60, lambda item: item.target == new.target) < 2, f"{new} overdraws 2/1h"
    assert count(20, lambda item: item.playbook == new.playbook) < 2, f"{new} overdraws 2/20m of its playbook"
    assert count(20, lambda item: True) < 3, f"{new} overdraws 3/20m of everything"


HEAL: list[Event] = [("all", 0), ("wait", 2), ("all", 0), ("wait", 1), ("all", 0)]
ONE_AFTER_THE_OTHER: list[Event] = [event for target in range(5) for event in (("alert", target), *HEAL)]


@example(history=ONE_AFTER_THE_OTHER, heals=[True])
@settings(max_examples=60)
@given(history=events, heals=st.lists(st.booleans(), min_size=1, max_size=5))
def test_no_history_violates_a_guard(history: list[Event], heals: list[bool]) -> None:
    """Whatever the order of alerts, steps and clock jumps: no rate limit, cooldown, concurrency limit, freeze or stop
    is violated."""
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(_live(Path(folder), history, heals))


async def _live(folder: Path, history: list[Event], heals: list[bool]) -> None:
    clock = SetClock(NOON)
    store = new_store(folder, clock)
    try:
        await _live_in(store, clock, PLAYBOOKS, history, heals)
    finally:
        await store.close()


async def _live_in(
    store: SqliteStore, clock: SetClock, playbooks: Sequence[Playbook], history: list[Event], heals: list[bool]
) -> None:
    turns = iter(range(10**6))
    health = Health(heals=lambda name: heals[next(turns) % len(heals)])
    runner = HistoryRunner(context(store, clock, playbooks, health, "replica"), clock, health)
    for event in history:
        await runner.happen(event)
    await runner.happen(("all", 0))
    assert len(runner.seen) == len(await begun(store)), "an action was begun that no guard was checked for"
