"""The guard remedy_memory: a remedy that did not help on a target needs a person before it runs again."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec
import pytest
from sqlalchemy import text

from remediator.core.ids import Ids
from remediator.core.plan import PlannedStep
from remediator.extensions.guards.base import GuardAnswer
from remediator.storage import Tx
from remediator.storage.repositories import remedy_memory
from remediator.storage.repositories.remedy_memory import NO_HELP, MemoryKind, Subject, remedy_key
from tests.support.guard_history import HOUR, NOON, STEP, Harness, plan_of, playbook

pytestmark = pytest.mark.promise(12)

OTHER = msgspec.structs.replace(STEP, id="reload", action="app.reload")


async def failed(harness: Harness, step: PlannedStep = STEP, *, target: str = "redis", ago: timedelta = HOUR) -> None:
    """Record that a step did not help."""

    def write(tx: Tx) -> None:
        run = harness.run("run-1", playbook(target=target), "auto", None)
        name, key = step.call.text, remedy_key(step, ())
        about = Subject(MemoryKind.REMEDY, key, name)
        remedy_memory.remember(tx, Ids(), run, about, NO_HELP, "redis.ping: no answer", "remediator/test")

    harness.clock.time = NOON - ago
    await harness.write(write)
    harness.clock.time = NOON


async def test_a_remedy_that_did_not_help_needs_a_person(harness: Harness) -> None:
    """The reason names the run, the time, the failed verification and the command that allows the remedy again."""
    await failed(harness)

    verdict = await harness.verdict("remedy_memory")

    assert verdict.answer is GuardAnswer.UNKNOWN and verdict.reason == "did_not_help"
    assert verdict.text.startswith(
        "step restart (service.restart) did not help redis at 11:00:00Z (run run-1): redis.ping: no answer; "
        "to allow it again: remediator memory clear memory-"
    )


@pytest.mark.parametrize(
    ("step", "asked", "settings"),
    [
        pytest.param(OTHER, {}, None, id="another action"),
        pytest.param(msgspec.structs.replace(STEP, parameters={"stop_timeout": "5s"}), {}, None, id="other parameters"),
        pytest.param(STEP, {"target": "app"}, None, id="another target"),
        pytest.param(STEP, {"run_id": "run-1"}, None, id="the same run"),
        pytest.param(STEP, {"mode": "approve"}, None, id="a person approved the plan"),
        pytest.param(STEP, {}, {"within": "30m"}, id="long ago"),
        pytest.param(STEP, {}, {"within": "0s"}, id="turned off"),
    ],
)
async def test_it_allows_what_is_not_known_to_fail(
    harness: Harness, step: PlannedStep, asked: dict[str, Any], settings: dict[str, str] | None
) -> None:
    """Only the same action with the same parameters on the same target counts."""
    await failed(harness)

    assert (await harness.verdict("remedy_memory", settings, step=step, **asked)).answer is GuardAnswer.ALLOW


@pytest.mark.parametrize(
    ("steps", "mode", "answer"),
    [
        pytest.param((STEP,), "auto", GuardAnswer.UNKNOWN, id="the only remedy"),
        pytest.param((STEP, OTHER), "auto", GuardAnswer.ALLOW, id="another remedy is left"),
        pytest.param((STEP, OTHER), "approve", GuardAnswer.UNKNOWN, id="a person is asked anyway, and told"),
    ],
)
async def test_a_plan_is_allowed_while_one_step_may_help(
    harness: Harness, steps: tuple[PlannedStep, ...], mode: str, answer: GuardAnswer
) -> None:
    """The guard allows an automatic plan while one of its steps is not known to fail."""
    await failed(harness)

    verdict = await harness.verdict("remedy_memory", step=None, plan=plan_of(*steps), mode=mode)

    assert verdict.answer is answer


async def test_it_is_unknown_without_its_store(harness: Harness) -> None:
    """If the store cannot be read, the guard neither allows nor blocks."""
    await harness.write(lambda tx: tx.connection.execute(text("DROP TABLE remedy_memory")))

    assert (await harness.verdict("remedy_memory")).answer is GuardAnswer.UNKNOWN
