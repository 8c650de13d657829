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
from tests.support.fleet import Fix, Health, advance_until, breaks, context, remedy
from tests.support.guard_history import Harness

ANN = Person("ann", "token", frozenset({Role.APPROVER}))


class Changing(Fix):
    """An action whose call the test can change after the approval."""

    def __init__(self, health: Health) -> None:
        super().__init__(health)
        self.how = "gently"

    async def plan(self, service: Service, parameters: Any) -> PlannedCall:
        return PlannedCall(f"fix {service.name} {self.how}")


@pytest.mark.promise(6)
@pytest.mark.parametrize("mode", ["approve", "auto"])
async def test_an_approval_of_one_plan_does_not_cover_a_later_step(harness: Harness, mode: str) -> None:
    """The later step has its own request. If its plan changes, the request is outdated, and a new one is sent."""
    steps = [
        {"id": "first", "action": "test.fix", "for": "down"},
        {"id": "second", "action": "test.fix", "for": "down", "approval": "required"},
    ]
    playbook = remedy("fix", {}, mode=mode, steps=steps)
    health = Health(heals=lambda name: False)
    made = context(harness.store, harness.clock, [playbook], health, "r1")
    action = Changing(health)
    made.actions = {"test.fix": action}
    run_id = await breaks(made, playbook, "app", 1, mode)
    assert run_id is not None

    async def pending() -> Approval:
        await advance_until(made, ["awaiting_approval"], harness.clock)
        found = await harness.store.read(lambda connection: approvals.get_pending(connection, run_id))
        assert found is not None
        return found

    async def approve(asked: Approval) -> None:
        request = DecisionRequest(asked.id, asked.plan_hash, "approve", ANN)
        result = await harness.write(lambda tx: decisions.decide(tx, request, Approvals()))
        assert result.status == "approved"

    async def done() -> list[str]:
        return [item.step for item in await harness.store.read(lambda c: attempts.list_for_run(c, run_id))]

    if mode == "approve":
        first = await pending()
        assert list(first.steps) == ["first"], "a step that needs its own approval is not part of the first request"
        await approve(first)
    second = await pending()
    assert list(second.steps) == ["second"] and await done() == ["first"]
    action.how = "with force"
    harness.clock.time += timedelta(seconds=30)
    await approve(second)
    third = await pending()
    assert third.id != second.id and list(third.steps) == ["second"] and await done() == ["first"]
    assert [step.call.text for step in third.due] == ["fix app with force"]
    health.heals = lambda name: True
    await approve(third)
    await advance_until(made, ["succeeded"], harness.clock)
    assert await done() == ["first", "second"]


async def approved(harness: Harness, made: PipelineContext, run_id: str) -> Approval:
    """Wait for the request, approve it, and return it."""
    await advance_until(made, ["awaiting_approval"], harness.clock)
    asked = await harness.store.read(lambda connection: approvals.get_pending(connection, run_id))
    assert asked is not None
    request = DecisionRequest(asked.id, asked.plan_hash, "approve", ANN)
    assert (await harness.write(lambda tx: decisions.decide(tx, request, Approvals()))).status == "approved"
    return asked


@pytest.mark.promise(3)
async def test_an_approval_before_lost_commits_does_not_count(harness: Harness) -> None:
    """A run was approved and then blocked. The database lost its last commits, so the step may already
    have been done: a new approval is needed."""
    playbook = remedy("fix", {}, mode="approve")
    made = context(harness.store, harness.clock, [playbook], Health(heals=lambda name: False), "r1")
    run_id = await breaks(made, playbook, "app", 1, "approve")
    assert run_id is not None

    await advance_until(made, ["awaiting_approval"], harness.clock)
    await harness.write(lambda tx: stops.create(tx, "stop-1", "global", "", "move", "user:ann"))
    await approved(harness, made, run_id)
    await advance_until(made, ["blocked"], harness.clock)
    harness.clock.time += timedelta(minutes=1)
    await harness.write(lambda tx: replacement.record(tx, "failover", "test"))
    harness.store.replaced = await harness.store.read(replacement.last)
    harness.clock.time += timedelta(minutes=1)
    await harness.write(lambda tx: stops.release(tx, "stop-1", "user:ann"))

    again = await approved(harness, made, run_id)
    assert "the database lost its last commits" in again.why
    assert await harness.store.read(lambda connection: attempts.list_for_run(connection, run_id)) == []
    await advance_until(made, ["verifying", "escalated"], harness.clock)
    assert len(await harness.store.read(lambda connection: attempts.list_for_run(connection, run_id))) == 1


@pytest.mark.promise(3)
async def test_a_request_without_the_lost_commits_does_not_count(harness: Harness) -> None:
    """A request that does not mention the lost commits does not count, and a new one is sent."""
    steps = [
        {"id": "first", "action": "test.fix", "for": "down"},
        {"id": "second", "action": "test.fix", "for": "down", "approval": "required"},
    ]
    playbook, health = remedy("fix", {}, mode="auto", steps=steps), Health(heals=lambda name: False)
    made = context(harness.store, harness.clock, [playbook], health, "r1")
    run_id = await breaks(made, playbook, "app", 1, "auto")
    assert run_id is not None
    await harness.write(lambda tx: replacement.record(tx, "failover", "test"))
    harness.clock.time += timedelta(seconds=1)

    async def done() -> list[str]:
        return [item.step for item in await harness.store.read(lambda c: attempts.list_for_run(c, run_id))]

    first = await approved(harness, made, run_id)
    assert first.asked is Reason.STEP_NEEDS_APPROVAL
    harness.store.replaced = await harness.store.read(replacement.last)
    assert harness.store.replaced is not None and first.requested_at > harness.store.replaced.at

    health.heals = lambda name: True
    second = await approved(harness, made, run_id)
    assert second.asked is Reason.COMMITS_LOST and second.why.startswith("step second: the database lost its last")
    assert await done() == ["first"]
    await advance_until(made, ["succeeded"], harness.clock)
    assert await done() == ["first", "second"]
