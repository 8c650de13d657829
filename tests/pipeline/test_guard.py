"""The guard stage: the result of an unknown answer, before anything is done."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from remediator.core.run import EpisodeStatus, Reason, Run
from remediator.extensions.clientset import ClientSet
from remediator.extensions.guards.base import Guard, GuardAnswer, GuardInput, Verdict
from remediator.pipeline.context import PipelineContext
from remediator.reporting.period import promotion
from remediator.storage import Tx
from remediator.storage.repositories import approvals, attempts, episodes, runs
from tests.support.fleet import Health, advance_until, breaks, context, remedy
from tests.support.guard_history import Harness

ENDED = ["awaiting_approval", "escalated", "succeeded", "failed", "blocked"]


class Unsure(Guard):
    """A guard whose answer is always unknown."""

    name = "unsure"
    reasons = frozenset({"no_data"})

    async def evaluate_live(self, guard_input: GuardInput) -> Verdict:
        return Verdict(GuardAnswer.UNKNOWN, "no_data", "nothing is known")


async def begun(harness: Harness, mode: str, more: list[Guard], **step: Any) -> PipelineContext:
    """Break a service, and return the engine with this guard and the run that is due."""
    steps = [{"id": "fix", "action": "test.fix", **step}]
    diagnosis = {
        "diagnose": [{"id": "well", "check": "test.well"}],
        "conclude": [{"id": "down", "when": "!evidence.well.ok", "cause": "It is down."}],
    }
    playbook = remedy("fix", {}, mode=mode, steps=steps, **diagnosis)
    made = context(harness.store, harness.clock, [playbook], Health(), "r1")
    made.guards = [*made.guards, *more]
    assert await breaks(made, playbook, "app", 1, mode) is not None
    return made


async def judged(harness: Harness, mode: str, **step: Any) -> tuple[Run, int]:
    """Return the run of a broken service when it waits or has ended, and the number of its attempts."""
    made = await begun(harness, mode, [Unsure(ClientSet())], **step)
    run = await advance_until(made, ENDED, harness.clock)
    return run, len(await harness.store.read(lambda connection: attempts.list_for_run(connection, run.id)))


@pytest.mark.promise(5)
@pytest.mark.parametrize("mode", ["auto", "approve"])
async def test_unknown_asks_a_person_before_a_step_that_is_due(harness: Harness, mode: str) -> None:
    """No action is done before the approval, and the request names the unknown guard."""
    run, done = await judged(harness, mode, when="!evidence.well.ok")
    assert (run.status, run.reason, done) == ("awaiting_approval", Reason.GUARD_UNKNOWN, 0)
    pending = await harness.store.read(lambda connection: approvals.get_pending(connection, run.id))
    assert pending is not None and list(pending.steps) == ["fix"]


@pytest.mark.promise(5)
@pytest.mark.promise(13)
@pytest.mark.parametrize("mode", ["auto", "approve"])
async def test_unknown_sends_no_request_for_a_read_only_plan(harness: Harness, mode: str) -> None:
    """No step fits the diagnosis: people are notified of it, and there is no request."""
    run, done = await judged(harness, mode, when="evidence.well.ok")
    assert (run.status, run.reason, done) == ("escalated", Reason.DIAGNOSED, 0)
    assert await harness.store.read(lambda connection: approvals.get_pending(connection, run.id)) is None


@pytest.mark.promise(13)
@pytest.mark.parametrize(
    ("when", "more", "would"),
    [
        ("!evidence.well.ok", [], "act"),
        ("!evidence.well.ok", [Unsure(ClientSet())], "ask"),
        ("evidence.well.ok", [], "nothing"),
    ],
)
async def test_shadow_records_what_it_would_have_done(
    harness: Harness, when: str, more: list[Guard], would: str
) -> None:
    """The decision is recorded even if the alert resolves and the run ends. Only planned actions count for a higher
    mode."""
    made = await begun(harness, "shadow", more, when=when)
    shadow = await advance_until(made, ENDED, harness.clock)
    assert (shadow.status, shadow.reason, shadow.detail.to_data()["would"]) == ("blocked", Reason.SHADOW, would)

    async def alert_is(status: EpisodeStatus) -> None:
        def work(tx: Tx) -> None:
            closes = tx.now + timedelta(minutes=5)
            alerts = episodes.list_for_run(tx.connection, shadow.id)
            over = [replace(each, status=status, resolved_at=tx.now, closes_at=closes) for each in alerts]
            episodes.update_all(tx, over)
            runs.notify(tx, [shadow.id])

        await harness.write(work)

    await alert_is(EpisodeStatus.RESOLVED)
    while (held := await advance_until(made, ENDED, harness.clock)).reason is Reason.SHADOW:
        pass
    assert (held.status, held.reason, held.detail.to_data()["would"]) == ("blocked", Reason.RESOLVED, would)
    await alert_is(EpisodeStatus.CLOSED)
    ended = await advance_until(made, ["cancelled"], harness.clock)
    assert (ended.reason, ended.detail.to_data()["would"]) == (Reason.RESOLVED, would)
    (found,) = await harness.store.read(lambda connection: promotion.evidence(connection, shadow.created_at))
    assert (found.shadow, found.would_act, found.resolved) == (1, int(would == "act"), int(would == "act"))
