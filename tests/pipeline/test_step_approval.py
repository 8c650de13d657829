"""``approval: required`` on a later step: an approval of another step or of another plan does not cover it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from remediator.core.approval import Person, Role
from remediator.core.notification_policy import Approvals
from remediator.core.plan import PlannedCall
from remediator.core.reason import Reason
from remediator.pipeline import decisions
from remediator.pipeline.context import PipelineContext
from remediator.pipeline.decisions import DecisionRequest
from remediator.playbooks.inventory import Service
from remediator.storage import replacement
from remediator.storage.repositories import approvals, attempts, stops
from remediator.storage.repositories.approvals import Approval
from tests.support.fleet import Health, Mend, advance_until, breaks, context, remedy
from tests.support.guard_history import House

ANN = Person("ann", "token", frozenset({Role.APPROVER}))


class Changing(Mend):
    """An action whose call the test can change after the approval."""

    def __init__(self, health: Health) -> None:
        super().__init__(health)
        self.how = "gently"

    async def plan(self, service: Service, parameters: Any) -> PlannedCall:
        return PlannedCall(f"mend {service.name} {self.how}")


@pytest.mark.promise(6)
@pytest.mark.parametrize("mode", ["approve", "auto"])
async def test_a_yes_to_one_plan_does_not_cover_a_later_step(house: House, mode: str) -> None:
    """The later step has its own request. If its plan changes, the request is outdated, and a new one is sent."""
    steps = [
        {"id": "first", "action": "test.mend", "for": "down"},
        {"id": "second", "action": "test.mend", "for": "down", "approval": "required"},
    ]
    playbook = remedy("mend", {}, mode=mode, steps=steps)
    health = Health(heals=lambda name: False)
    made = context(house.store, house.clock, [playbook], health, "r1")
    action = Changing(health)
    made.actions = {"test.mend": action}
    run_id = await breaks(made, playbook, "app", 1, mode)
    assert run_id is not None

    async def pending() -> Approval:
        await advance_until(made, ["awaiting_approval"], house.clock)
        found = await house.store.read(lambda connection: approvals.get_pending(connection, run_id))
        assert found is not None
        return found

    async def approve(asked: Approval) -> None:
        request = DecisionRequest(asked.id, asked.plan_hash, "approve", ANN)
        result = await house.write(lambda tx: decisions.decide(tx, request, Approvals()))
        assert result.status == "approved"

    async def done() -> list[str]:
        return [item.step for item in await house.store.read(lambda c: attempts.list_for_run(c, run_id))]

    if mode == "approve":
        first = await pending()
        assert list(first.steps) == ["first"], "a step that needs its own approval is not part of the first request"
        await approve(first)
    second = await pending()
    assert list(second.steps) == ["second"] and await done() == ["first"]
    action.how = "with force"
    house.clock.time += timedelta(seconds=30)
    await approve(second)
    third = await pending()
    assert third.id != second.id and list(third.steps) == ["second"] and await done() == ["first"]
    assert [step.call.text for step in third.due] == ["mend app with force"]
    health.heals = lambda name: True
    await approve(third)
    await advance_until(made, ["succeeded"], house.clock)
    assert await done() == ["first", "second"]


async def approved(house: House, made: PipelineContext, run_id: str) -> Approval:
    """Wait for the request, approve it, and return it."""
    await advance_until(made, ["awaiting_approval"], house.clock)
    asked = await house.store.read(lambda connection: approvals.get_pending(connection, run_id))
    assert asked is not None
    request = DecisionRequest(asked.id, asked.plan_hash, "approve", ANN)
    assert (await house.write(lambda tx: decisions.decide(tx, request, Approvals()))).status == "approved"
    return asked


@pytest.mark.promise(3)
async def test_a_yes_from_before_a_lost_commit_does_not_cover_what_may_be_done_already(house: House) -> None:
    """A run was approved and then blocked. The database lost its last commits, so the step may be done: a new approval
    is needed."""
    playbook = remedy("mend", {}, mode="approve")
    made = context(house.store, house.clock, [playbook], Health(heals=lambda name: False), "r1")
    run_id = await breaks(made, playbook, "app", 1, "approve")
    assert run_id is not None

    await advance_until(made, ["awaiting_approval"], house.clock)
    await house.write(lambda tx: stops.create(tx, "stop-1", "global", "", "move", "user:ann"))
    await approved(house, made, run_id)
    await advance_until(made, ["blocked"], house.clock)
    house.clock.time += timedelta(minutes=1)
    await house.write(lambda tx: replacement.record(tx, "failover", "test"))
    house.store.replaced = await house.store.read(replacement.last)
    house.clock.time += timedelta(minutes=1)
    await house.write(lambda tx: stops.release(tx, "stop-1", "user:ann"))

    again = await approved(house, made, run_id)
    assert "the database lost its last commits" in again.why
    assert await house.store.read(lambda connection: attempts.list_for_run(connection, run_id)) == []
    await advance_until(made, ["verifying", "escalated"], house.clock)
    assert len(await house.store.read(lambda connection: attempts.list_for_run(connection, run_id))) == 1


@pytest.mark.promise(3)
async def test_a_request_of_a_replica_that_did_not_know_of_the_loss_does_not_count(house: House) -> None:
    """A request that does not mention the lost commits does not count, and a new one is sent."""
    steps = [
        {"id": "first", "action": "test.mend", "for": "down"},
        {"id": "second", "action": "test.mend", "for": "down", "approval": "required"},
    ]
    playbook, health = remedy("mend", {}, mode="auto", steps=steps), Health(heals=lambda name: False)
    made = context(house.store, house.clock, [playbook], health, "r1")
    run_id = await breaks(made, playbook, "app", 1, "auto")
    assert run_id is not None
    await house.write(lambda tx: replacement.record(tx, "failover", "test"))
    house.clock.time += timedelta(seconds=1)

    async def done() -> list[str]:
        return [item.step for item in await house.store.read(lambda c: attempts.list_for_run(c, run_id))]

    first = await approved(house, made, run_id)
    assert first.asked is Reason.STEP_NEEDS_APPROVAL
    house.store.replaced = await house.store.read(replacement.last)
    assert house.store.replaced is not None and first.requested_at > house.store.replaced.at

    health.heals = lambda name: True
    second = await approved(house, made, run_id)
    assert second.asked is Reason.COMMITS_LOST and second.why.startswith("step second: the database lost its last")
    assert await done() == ["first"]
    await advance_until(made, ["succeeded"], house.clock)
    assert await done() == ["first", "second"]
