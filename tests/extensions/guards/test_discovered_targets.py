"""The invariants of the guards for discovered targets, which may leave and join at any time, on any replica."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from remediator.core.run import Run
from remediator.extensions.guards.base import GuardAnswer
from remediator.playbooks.discovered import TargetSet, merge
from remediator.playbooks.inventory import Inventory
from remediator.storage.repositories import discovered, runs
from tests.extensions.guards.test_invariants import (
    HEAL,
    ONE_AFTER_THE_OTHER,
    PLAYBOOKS,
    TARGETS,
    Event,
    HistoryRunner,
    events,
)
from tests.support.fleet import Health, begun, context
from tests.support.guard_history import INVENTORY, NOON, Harness, SetClock
from tests.support.stores import new_store

pytestmark = [pytest.mark.promise(8), pytest.mark.promise(12)]

WEB = TARGETS[:3]
"""The discovered targets. All other targets are written in the inventory."""


def written() -> Inventory:
    """Return the inventory of the other tests, with discovered web servers."""
    content = INVENTORY.model_dump(mode="json", exclude_unset=True)
    services = {name: item for name, item in content["services"].items() if not name.startswith("web-")}
    platform = {"kind": "supervisor", "url": "unix:///none", "program": "${name}"}
    discovery = {
        "kind": "file_sd",
        "files": ["targets.json"],
        "name": "${name}",
        "allow": {"names": ["web-*"], "labels": {"name": ["web-*"]}, "targets": 10},
        "template": {"platform": platform, "depends_on": ["redis"]},
    }
    return Inventory.model_validate({**content, "services": services, "discover": {"web": discovery}})


def targets_of(inventory: Inventory, names: set[str]) -> TargetSet:
    """Return a set with these targets."""
    return TargetSet.of(inventory.discover["web"], [{"name": name} for name in names])


class DiscoveredHistoryRunner(HistoryRunner):
    """Run a history in which targets leave the set and join it again.

    ``look``: another replica discovers other targets and writes them to the store. ``follow``: this replica reads them.
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.written = written()
        self.present = set(WEB)
        self.version = ""

    async def start(self) -> None:
        """Write the set with all targets, and read it on this replica."""
        await self._save()
        await self._follow(0)

    async def _save(self) -> None:
        targets, before = targets_of(self.written, self.present), self.version
        assert await self.context.store.write(lambda tx: discovered.save(tx, "web", targets, before))
        self.version = targets.version

    async def _look(self, value: int) -> None:
        self.present ^= {WEB[value % len(WEB)]}
        await self._save()

    async def _follow(self, value: int) -> None:
        sets = await self.context.store.read(discovered.load)
        self.context.playbooks = self.context.playbooks.with_inventory(merge(self.written, sets).inventory)
        waiting = await self.context.store.read(lambda connection: runs.list_page(connection, 100))
        await self.context.store.write(lambda tx: runs.notify(tx, [run.id for run in waiting]))

    async def _check(self) -> None:
        for item in await begun(self.context.store):
            new = (item.run, item.at) not in self.seen
            assert not new or item.target not in WEB or item.target in self.present, f"{item}: its target had left"
        await super()._check()


changes = st.one_of(
    events.flatmap(lambda found: st.sampled_from(found)),
    st.tuples(st.just("look"), st.integers(0, 2)),
    st.tuples(st.just("follow"), st.just(0)),
)
LEAVES: list[Event] = [("alert", 0), ("claim", 4), ("look", 0), *HEAL, ("follow", 0), *HEAL]


@pytest.mark.long
@example(history=ONE_AFTER_THE_OTHER, heals=[True])
@example(history=LEAVES, heals=[True])
@settings(max_examples=60)
@given(history=st.lists(changes, min_size=10, max_size=60), heals=st.lists(st.booleans(), min_size=1, max_size=5))
def test_no_history_violates_a_guard(history: list[Event], heals: list[bool]) -> None:
    """No limit is exceeded, and no action starts on a removed target, also if the replica has an old set."""
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(_live(Path(folder), history, heals))


async def _live(folder: Path, history: list[Event], heals: list[bool]) -> None:
    clock = SetClock(NOON)
    store = new_store(folder, clock)
    try:
        turns = iter(range(10**6))
        health = Health(heals=lambda name: heals[next(turns) % len(heals)])
        runner = DiscoveredHistoryRunner(context(store, clock, PLAYBOOKS, health, "replica", written()), clock, health)
        await runner.start()
        for event in history:
            await runner.happen(event)
        await runner.happen(("follow", 0))
        await runner.happen(("all", 0))
        found = await store.read(lambda connection: runs.list_page(connection, 100))
        assert [run.id for run in found if _is_stuck(run, runner)] == [], "a run is open although its target has left"
    finally:
        await store.close()


def _is_stuck(run: Run, runner: DiscoveredHistoryRunner) -> bool:
    left = run.target in WEB and run.target not in runner.present
    return left and run.finished_at is None and run.plan is not None and not runner.hands and run.lease_owner is None


async def test_a_replica_that_does_not_know_the_last_look_up_begins_nothing(harness: Harness) -> None:
    """If the set in the store is newer than the set of the replica, the guard does not allow an action."""
    inventory = written()
    first, second = targets_of(inventory, {"web-0", "web-1"}), targets_of(inventory, {"web-1"})
    await harness.store.write(lambda tx: discovered.save(tx, "web", first, ""))
    harness.context.playbooks = harness.context.playbooks.with_inventory(merge(inventory, {"web": first}).inventory)
    assert (await harness.verdict("about_target", target="web-1")).answer is GuardAnswer.ALLOW

    await harness.store.write(lambda tx: discovered.save(tx, "web", second, first.version))
    verdict = await harness.verdict("about_target", target="web-1")

    assert (verdict.answer, verdict.reason) == (GuardAnswer.BLOCK, "targets_changed")
    assert "discovery web changed a moment ago" in verdict.text
    assert (await harness.verdict("about_target", target="redis")).answer is GuardAnswer.ALLOW, "it is written"
