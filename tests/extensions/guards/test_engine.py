"""The guards in the engine: approvals that override them, undo after harm, and runs that continue when another run
ends."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import update

from remediator.core.reason import Reason
from remediator.extensions.guards.base import GuardAnswer, Verdict
from remediator.pipeline.approve import void_outdated_requests
from remediator.pipeline.context import PlaybookSet
from remediator.pipeline.guard_evaluation import next_evaluation_at, on_run_finished
from remediator.storage.repositories import approvals, attempts, autonomy, evidence, outbox, runs, stops
from remediator.storage.schema import runs as runs_table
from tests.support.fleet import Gauge, Health, advance_until, breaks, context, remedy
from tests.support.guard_history import NOON, Harness, row


async def approve(harness: Harness, run_id: str, who: str = "user:ann") -> None:
    def work(tx: Any) -> str:
        asked = approvals.get_pending(tx.connection, run_id)
        assert asked is not None
        return approvals.decide(tx, asked, asked.plan_hash, approvals.Decision(who, "approve", tx.now, None, "token"))

    assert await harness.write(work) == "approved"


@pytest.mark.promise(5)
async def test_the_intent_asks_for_no_second_approval(harness: Harness) -> None:
    """After the approval, the run acts once: the transaction of the intent does not ask for another approval."""
    chosen = remedy("fix", {"ramp": [9]})
    engine = context(harness.store, harness.clock, [chosen], Health(), "a")
    await harness.write(
        lambda tx: autonomy.set_mode(tx, "fix", "approve", "auto", "remediator/a", "circuit breaker opened 2 times")
    )
    await breaks(engine, chosen, "web-1", 1)

    asked = await advance_until(engine, ["awaiting_approval"])
    assert (asked.reason, asked.detail.guard) == (Reason.GUARD_UNKNOWN, "autonomy")
    await approve(harness, asked.id)
    done = await advance_until(engine, ["succeeded"], harness.clock)

    tried = await harness.store.read(lambda connection: attempts.list_for_run(connection, done.id))
    assert [item.outcome for item in tried] == ["ok"]


@pytest.mark.promise(6)
@pytest.mark.parametrize("acted", [False, True])
async def test_only_a_run_that_acted_keeps_its_request_after_a_playbook_change(harness: Harness, acted: bool) -> None:
    """A request becomes outdated if the active playbook differs.

    A run that has acted waits for its answer, because a new start would act again.
    """
    chosen = remedy("fix", {"ramp": [9]})
    engine = context(harness.store, harness.clock, [chosen], Health(), "a")
    await harness.write(
        lambda tx: autonomy.set_mode(tx, "fix", "approve", "auto", "remediator/a", "circuit breaker opened 2 times")
    )
    await breaks(engine, chosen, "web-1", 1)
    asked = await advance_until(engine, ["awaiting_approval"])
    if acted:
        await harness.write(lambda tx: tx.connection.execute(update(runs_table).values(first_action_at=tx.now)))
    await harness.write(lambda tx: void_outdated_requests(tx, engine))
    before = await harness.store.read(lambda connection: approvals.get_latest(connection, asked.id))
    assert before is not None and before.status == "pending"  # the playbook has not changed yet

    changed = remedy("fix", {"ramp": [8]})
    assert changed.content_hash != chosen.content_hash
    engine.playbooks = PlaybookSet([changed], engine.playbooks.inventory, engine.playbooks.environment)
    engine.playbooks.add_version(chosen)
    await harness.write(lambda tx: void_outdated_requests(tx, engine))
    after = await harness.store.read(lambda connection: approvals.get(connection, before.id))

    assert after is not None
    if acted:
        assert after.status == "pending"
        return
    assert (after.status, after.reason) == ("void", "the playbook has changed")
    again = await advance_until(engine, ["awaiting_approval"], harness.clock)
    newer = await harness.store.read(lambda connection: approvals.get_pending(connection, again.id))
    assert again.playbook_hash == changed.content_hash
    assert newer is not None and newer.id != before.id


@pytest.mark.promise(10)
async def test_a_stop_has_priority_over_an_approval(harness: Harness) -> None:
    """After an approval during a stop, no action starts, and the run shows the reason."""
    chosen = remedy("fix", {})
    engine = context(harness.store, harness.clock, [chosen], Health(), "a")
    await harness.write(lambda tx: autonomy.set_mode(tx, "fix", "approve", "auto", "remediator/a", "two bad nights"))
    await breaks(engine, chosen, "web-1", 1)
    asked = await advance_until(engine, ["awaiting_approval"])
    await harness.write(lambda tx: stops.create(tx, "stop-1", "global", "", "database move", "user:bob"))
    await approve(harness, asked.id)

    held = await advance_until(engine, ["blocked"])

    assert (held.blocked_by, held.detail.guard_reason) == ("kill_switch", "stopped")
    assert await harness.store.read(lambda connection: attempts.list_for_run(connection, held.id)) == []


def harmful(undo: dict[str, Any] | None) -> Any:
    step = {"id": "fix", "action": "test.fix", "on_failure": "escalate", **({"undo": undo} if undo else {})}
    return remedy("fix", {"ramp": [9], "regression": [{"promql": "errors"}]}, steps=[step])


@pytest.mark.promise(12)
@pytest.mark.parametrize("reversible", [True, False])
async def test_a_harmful_step_is_undone_and_escalated(harness: Harness, reversible: bool) -> None:
    """The errors double after the step: the run undoes it if it has an undo, and escalates with both values."""
    chosen = harmful({"action": "test.fix"} if reversible else None)
    engine = context(harness.store, harness.clock, [chosen], Health(heals=lambda name: False), "a")
    engine.checks = {**engine.checks, "promql": Gauge(5.0, 10.0)}
    await breaks(engine, chosen, "web-1", 1)

    run = await advance_until(engine, ["escalated"], harness.clock)

    assert run.reason == "regression"
    assert run.detail.text == "errors got worse: 5 before the step, 10 after it"
    assert [item["outcome"] for item in run.detail.undone] == (["ok"] if reversible else [])
    tried = await harness.store.read(lambda connection: attempts.list_for_run(connection, run.id))
    assert [(item.step, item.is_undo) for item in tried] == [("fix", False)] + [("fix", True)] * reversible
    told = await harness.store.read(lambda connection: outbox.list_for_run(connection, run.id))
    assert "escalation" in {item.kind for item in told}
    assert not run.holds_target


@pytest.mark.promise(10)
async def test_a_stop_prevents_the_undo_too(harness: Harness) -> None:
    """If a stop is created during the verification, a regression escalates the run, and the undo is not tried."""
    chosen = harmful({"action": "test.fix"})
    health = Health(heals=lambda name: False)

    async def stop() -> None:
        await harness.write(lambda tx: stops.create(tx, "stop-1", "global", "", "database move", "user:bob"))

    health.before = stop
    engine = context(harness.store, harness.clock, [chosen], health, "a")
    engine.checks = {**engine.checks, "promql": Gauge(5.0, 10.0)}
    await breaks(engine, chosen, "web-1", 1)

    run = await advance_until(engine, ["escalated"], harness.clock)

    assert [(item["outcome"], item["summary"]) for item in run.detail.undone] == [
        ("not_tried", "everything stopped by user:bob")
    ]


async def test_a_signal_that_stays_as_it_was_is_no_harm(harness: Harness) -> None:
    """The value before the step is recorded with the verdicts, and the run succeeds by its verification."""
    chosen = harmful({"action": "test.fix"})
    engine = context(harness.store, harness.clock, [chosen], Health(), "a")
    engine.checks = {**engine.checks, "promql": Gauge(5.0)}
    await breaks(engine, chosen, "web-1", 1)

    run = await advance_until(engine, ["succeeded"], harness.clock)

    judged = await harness.store.read(lambda connection: evidence.list_verdicts(connection, run.id))
    noted = next(item for item in judged if item.guard == "regression" and item.phase == "act")
    assert noted.inputs == {"before": {"errors": 5.0}}


async def test_runs_that_waited_for_a_run_are_due_after_its_end(harness: Harness) -> None:
    """When a run ends, runs that wait for other runs are due at once; a run that waits for the end of a freeze is
    not."""
    later = NOON.replace(hour=23)
    waits = [guard.name for guard in harness.context.guards if guard.waits_for_runs]
    assert waits == ["dependency", "concurrency", "ramp", "circuit_breaker"]
    for name in (*waits, "freeze"):
        held = row(
            f"held-{name}", name, "redis", "blocked", NOON, reason="guard_blocked", blocked_by=name, wake_at=later
        )
        await harness.past(held)
    over = harness.run("run-1", remedy("fix", {}), "auto", None)

    await harness.write(lambda tx: on_run_finished(tx, harness.context, over))

    found = await harness.store.read(lambda connection: runs.list_page(connection, 50))
    assert {run.id for run in found if run.wake_at == NOON} == {f"held-{name}" for name in waits}


async def test_few_of_the_runs_that_wait_for_a_slot_are_due_after_an_end(harness: Harness) -> None:
    """Of hundreds of runs that wait for a free slot, only a few are due, and all runs that this run blocked."""
    later = NOON.replace(hour=23)
    for number in range(200):
        wakes = later + timedelta(seconds=(number * 37) % 200)
        held = row(f"held-{number}", "p", f"t{number}", "blocked", NOON, reason="guard_blocked", wake_at=wakes)
        held["blocked_by"] = "concurrency"
        await harness.past(held)
    last = later + timedelta(hours=1)
    held = row("symptom", "p", "api", "blocked", NOON, reason="guard_blocked", blocked_by="dependency", wake_at=last)
    await harness.past(held | {"blocked_by_run": "run-1"})
    over = harness.run("run-1", remedy("fix", {}), "auto", None)
    mine = row("mine", "p", over.target, "blocked", NOON, reason="guard_blocked", blocked_by="ramp", wake_at=last)
    await harness.past(mine)

    await harness.write(lambda tx: on_run_finished(tx, harness.context, over))

    found = {run.id for run in await harness.store.read(lambda c: runs.list_page(c, 500)) if run.wake_at == NOON}
    assert found == {"symptom", "mine"} | {f"held-{number}" for number in range(200) if (number * 37) % 200 < 4}


@pytest.mark.parametrize(("held", "seconds"), [(1, 15), (300, 15), (2000, 100)])
async def test_thousands_of_blocked_runs_are_evaluated_in_turn(harness: Harness, held: int, seconds: int) -> None:
    """Blocked runs are evaluated at the configured interval. With thousands of them, at most twenty are evaluated per
    second."""
    blocked = Verdict(GuardAnswer.BLOCK, "all_busy", "busy")
    assert next_evaluation_at(harness.context, blocked, NOON, held) == NOON + timedelta(seconds=seconds)
