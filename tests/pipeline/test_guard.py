"""The guard stage: what a guard that does not know leads to, before anything is done."""

from __future__ import annotations

from typing import Any

import pytest

from remediator.core.run import Reason, Run
from remediator.extensions.clientset import ClientSet
from remediator.extensions.guards.base import Guard, GuardAnswer, GuardInput, Verdict
from remediator.storage.repositories import approvals, attempts
from tests.support.fleet import Health, advance_until, breaks, context, remedy
from tests.support.guard_history import House

ENDED = ["awaiting_approval", "escalated", "succeeded", "failed", "blocked"]


class Unsure(Guard):
    """A guard that never knows."""

    name = "unsure"
    reasons = frozenset({"no_data"})

    async def evaluate_live(self, guard_input: GuardInput) -> Verdict:
        return Verdict(GuardAnswer.UNKNOWN, "no_data", "nothing is known")


async def judged(house: House, mode: str, **step: Any) -> tuple[Run, int]:
    """Return the run of a broken service when it waits or has ended, and the number of its attempts."""
    steps = [{"id": "mend", "action": "test.mend", **step}]
    diagnosis = {
        "diagnose": [{"id": "well", "check": "test.well"}],
        "conclude": [{"id": "down", "when": "!evidence.well.ok", "cause": "It is down."}],
    }
    playbook = remedy("mend", {}, mode=mode, steps=steps, **diagnosis)
    made = context(house.store, house.clock, [playbook], Health(), "r1")
    made.guards = [*made.guards, Unsure(ClientSet())]
    run_id = await breaks(made, playbook, "app", 1, mode)
    assert run_id is not None
    run = await advance_until(made, ENDED, house.clock)
    return run, len(await house.store.read(lambda connection: attempts.list_for_run(connection, run_id)))


@pytest.mark.promise(5)
@pytest.mark.parametrize("mode", ["auto", "approve"])
async def test_unknown_asks_a_person_before_a_step_that_is_due(house: House, mode: str) -> None:
    """Nothing is done before somebody has answered, and the request names what is not known."""
    run, done = await judged(house, mode, when="!evidence.well.ok")
    assert (run.status, run.reason, done) == ("awaiting_approval", Reason.GUARD_UNKNOWN, 0)
    pending = await house.store.read(lambda connection: approvals.get_pending(connection, run.id))
    assert pending is not None and list(pending.steps) == ["mend"]


@pytest.mark.promise(5)
@pytest.mark.promise(13)
@pytest.mark.parametrize("mode", ["auto", "approve"])
async def test_unknown_asks_nobody_about_a_plan_that_changes_nothing(house: House, mode: str) -> None:
    """No step is for what the diagnosis shows: people get the diagnosis, and no request without a step."""
    run, done = await judged(house, mode, when="evidence.well.ok")
    assert (run.status, run.reason, done) == ("escalated", Reason.DIAGNOSED, 0)
    assert await house.store.read(lambda connection: approvals.get_pending(connection, run.id)) is None
