"""Stable verification: a restart between two checks is found, although every check is ok."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from remediator.core.run_detail import VerifyingDetail
from remediator.errors import Unreachable
from remediator.extensions.platforms.base import ServiceStatus, State
from remediator.pipeline import act, verify
from remediator.pipeline.context import StageResult
from remediator.pipeline.run_context import RunContext
from remediator.storage.repositories.evidence import EvidenceRecord
from tests.support.guard_history import INVENTORY, NOON, STEP, Harness, SetClock, plan_of, playbook
from tests.support.stores import new_store

pytestmark = pytest.mark.promise(7)

PLAN = msgspec.structs.replace(plan_of(STEP), stable=60.0, within=90.0)


class Watched(RunContext):
    """A run in verification that keeps its changes in memory instead of the store."""

    async def write(self, work: Callable[[Any], Any]) -> Any:
        """Apply a change of the detail to the run."""
        return work(self)

    def save(self, *, detail: VerifyingDetail) -> None:
        """Keep the new detail."""
        self.run = replace(self.run, detail=detail)


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[Harness]:
    """Return all guards with an empty store, at noon."""
    clock = SetClock()
    store = new_store(tmp_path, clock)
    yield Harness(store, clock)
    await store.close()


class Watch:
    """A verification that began at noon, with a successful check at each time."""

    def __init__(self, harness: Harness) -> None:
        chosen = playbook()
        run = replace(harness.run("run-now", chosen, "auto", PLAN), detail=VerifyingDetail(step=STEP.id, since=NOON))
        self.harness, self.ctx = harness, Watched(harness.context, run, chosen, INVENTORY.service("redis"))

    async def at(self, seconds: float, **lives: str) -> tuple[StageResult | None, list[EvidenceRecord]]:
        """Check instances with these lives at this number of seconds after noon; return the result and the evidence."""
        self.harness.clock.time = NOON + timedelta(seconds=seconds)
        self.harness.platform.services["redis"] = ServiceStatus(State.RUNNING, "runs", 1, 1, {}, lives=lives)
        return await self.look()

    async def look(self) -> tuple[StageResult | None, list[EvidenceRecord]]:
        """Check the current state of the platform."""
        seen = [EvidenceRecord("verify", "service.running", "ok", "runs", {}, self.ctx.now())]
        detail = self.ctx.run.detail
        assert isinstance(detail, VerifyingDetail)
        return await verify._watch(self.ctx, detail, seen, NOON), seen


async def test_it_is_stable_after_the_time_without_a_restart(harness: Harness) -> None:
    """The verification waits for 60 seconds without a restart and is then complete."""
    watch = Watch(harness)
    for seconds in (0, 30, 59):
        assert (await watch.at(seconds, a="1"))[0] is not None
    result, seen = await watch.at(60, a="1")

    assert result is None and [item.status for item in seen] == ["ok"]


async def test_a_restart_starts_the_time_again(harness: Harness) -> None:
    """The 60 seconds count from the restart, not from the first successful check."""
    watch = Watch(harness)
    await watch.at(0, a="1")
    assert (await watch.at(50, a="2"))[0] is not None
    assert (await watch.at(109, a="2"))[0] is not None
    assert (await watch.at(110, a="2"))[0] is None


@pytest.mark.parametrize("lives", [{"a": "2"}, {"b": "1"}])
async def test_a_restart_after_the_time_for_verification_is_a_failure(harness: Harness, lives: dict[str, str]) -> None:
    """If an instance was restarted or all instances were replaced, the run is not healed, and the evidence names the
    instance."""
    watch = Watch(harness)
    await watch.at(40, a="1")
    result, seen = await watch.at(95, **lives)

    assert result is None and seen[-1].status == "fail"
    assert seen[-1].summary == f"{next(iter(lives))} started again before 1m without a restart were over"


async def test_an_added_or_removed_instance_is_no_restart(harness: Harness) -> None:
    """An autoscaler may add and remove instances; a new instance is watched from then on."""
    watch = Watch(harness)
    await watch.at(0, a="1")
    await watch.at(20, a="1", b="1")
    await watch.at(40, b="1")
    assert (await watch.at(60, b="1"))[0] is None


async def test_a_platform_that_does_not_answer_is_not_stable(harness: Harness) -> None:
    """Without an answer of the platform, the target is not proved stable."""
    watch = Watch(harness)
    await watch.at(0, a="1")
    harness.platform.services["redis"] = Unreachable("no route to host")
    result, seen = await watch.look()

    assert result is None and (seen[-1].name, seen[-1].status) == ("stable", "unknown")


@pytest.mark.parametrize(
    ("crashes", "age", "young"),
    [(1, 9, True), (0, 9, False), (1, 60, False), (1, None, False)],
    ids=["between two crashes", "started by a person", "long ago", "unknown age"],
)
async def test_a_proof_does_not_count_directly_after_a_crash(
    harness: Harness, crashes: int, age: int | None, young: bool
) -> None:
    """The target answers between two crashes. Without this rule, the run would end as *not needed*."""
    ctx = Watch(harness).ctx
    started = None if age is None else harness.clock.time - timedelta(seconds=age)
    harness.platform.services["redis"] = ServiceStatus(
        State.RUNNING, "runs", 1, 1, {}, started_at=started, crashes=crashes
    )
    found = await act._too_young(ctx)
    assert [(item.phase, item.name, item.status) for item in found] == ([("before", "stable", "fail")] if young else [])
