"""An outdated request: its message is updated, and a new request marks the difference."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from remediator.core.approval import Person, Role
from remediator.core.message import MessageKind
from remediator.core.notification_policy import Approvals
from remediator.core.plan import PlannedCall
from remediator.core.run import Run
from remediator.pipeline import decisions
from remediator.pipeline.decisions import DecisionRequest
from remediator.playbooks.inventory import Service
from remediator.reporting.request_view import RequestView
from remediator.storage.repositories import approvals, outbox, runs
from remediator.storage.repositories.approvals import Approval
from tests.support.fleet import Fix, Health, advance_until, breaks, context, remedy
from tests.support.guard_history import Harness

ANN = Person("ann", "token", frozenset({Role.APPROVER}))


class Measured(Fix):
    """An action that deletes files: the names of the files are part of its plan, their sizes are not."""

    def __init__(self, health: Health) -> None:
        super().__init__(health)
        self.files, self.size = 3, 100

    async def plan(self, service: Service, parameters: Any) -> PlannedCall:
        given = {"files": self.files, "bytes": self.size}
        return PlannedCall(f"delete {self.files} files of {service.name}", given, volatile_fields=("bytes",))


async def _asked(harness: Harness) -> tuple[Any, Measured, Run, Approval]:
    """Return an engine, its action, and a run whose request was delivered to a chat."""
    playbook = remedy("fix", {}, mode="approve")
    health = Health()
    made = context(harness.store, harness.clock, [playbook], health, "r1")
    action = Measured(health)
    made.actions = {"test.fix": action}
    run_id = await breaks(made, playbook, "app", 1, "approve")
    assert run_id is not None
    run = await advance_until(made, ["awaiting_approval"], harness.clock)
    first = await harness.store.read(lambda connection: approvals.get_pending(connection, run_id))
    assert first is not None

    def deliver(tx: Any) -> None:
        [message] = outbox.list_for_run(tx.connection, run_id)
        outbox.mark_sent(tx, message.id, {"ts": "1"}, "chat")

    await harness.write(deliver)
    return made, action, run, first


async def _approve(harness: Harness, asked: Approval) -> None:
    request = DecisionRequest(asked.id, asked.plan_hash, "approve", ANN)
    await harness.write(lambda tx: decisions.decide(tx, request, Approvals()))


@pytest.mark.promise(6)
async def test_an_outdated_request_is_updated_and_replaced_once(harness: Harness) -> None:
    """An approval for three files does not cover five: the old message is updated, and one new request marks the
    change."""
    made, action, run, first = await _asked(harness)
    action.files = 5
    harness.clock.time += timedelta(seconds=30)
    await _approve(harness, first)
    await advance_until(made, ["awaiting_approval"], harness.clock)
    listed = await harness.store.read(lambda connection: approvals.list_for_run(connection, run.id))
    [second] = [item for item in listed if item.status == "pending"]
    assert len(listed) == 2 and next(item for item in listed if item.id == first.id).status == "void"
    now = await harness.store.read(lambda connection: runs.get(connection, run.id))
    assert now is not None
    view = await harness.store.read(lambda connection: RequestView.load(connection, second, now))
    assert view.changed() == (
        "- test.fix: delete 3 files of app",
        "+ test.fix: delete 5 files of app",
    )
    messages = await harness.store.read(lambda connection: outbox.list_for_run(connection, run.id))
    told = [item.content.get("became") for item in messages if item.kind is MessageKind.UPDATE]
    asks = [item.content["approval"] for item in messages if item.kind is MessageKind.APPROVAL]
    assert "void" in told and asks == [first.id, second.id]
    await _approve(harness, second)
    await advance_until(made, ["succeeded"], harness.clock)


async def test_sizes_that_drift_do_not_outdate_a_request(harness: Harness) -> None:
    """A changed size does not change the plan, so the approval stays valid."""
    made, action, run, first = await _asked(harness)
    action.size = 100_000
    await _approve(harness, first)
    await advance_until(made, ["succeeded"], harness.clock)
    listed = await harness.store.read(lambda connection: approvals.list_for_run(connection, run.id))
    assert [item.status for item in listed] == ["approved"]
