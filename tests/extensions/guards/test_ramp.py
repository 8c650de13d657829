"""The guard ``ramp``: one target first, then two, then four at the same time, and none after too many failures."""

from __future__ import annotations

from datetime import timedelta

import pytest

from remediator.extensions.guards.base import GuardAnswer
from tests.support.guard_history import HOUR, MINUTE, NOON, Harness

pytestmark = pytest.mark.promise(12)


async def web(harness: Harness, number: int, status_: str, ago: timedelta = 5 * MINUTE) -> None:
    await harness.acted(f"run-{number}", NOON - ago, playbook_="web", target=f"web-{number}", status_=status_)


async def ask(harness: Harness, settings: object = None):  # type: ignore[no-untyped-def]
    return await harness.verdict("ramp", settings, target="web-9", name="web")


async def test_the_second_target_waits_for_the_first(harness: Harness) -> None:
    """Until the remedy of the first target is verified, no second target starts."""
    await web(harness, 0, "verifying")

    assert (
        await ask(harness)
    ).sentence == "blocked: ramp 1→2→4 for web: at most 1 at the same time now, used by runs run-0"


@pytest.mark.parametrize(
    ("healed", "acting", "answer"),
    [
        (0, 0, GuardAnswer.ALLOW),
        (0, 1, GuardAnswer.BLOCK),
        (1, 1, GuardAnswer.ALLOW),
        (1, 2, GuardAnswer.BLOCK),
        (2, 2, GuardAnswer.BLOCK),
        (3, 3, GuardAnswer.ALLOW),
        (3, 4, GuardAnswer.BLOCK),
        (5, 4, GuardAnswer.BLOCK),
    ],
)
async def test_each_wave_has_to_heal_before_the_next(
    harness: Harness, healed: int, acting: int, answer: GuardAnswer
) -> None:
    """After one healed target, two may start; after three healed targets, four; the limit then stays at four."""
    for number in range(healed + acting):
        await web(harness, number, "succeeded" if number < healed else "running")

    assert (await ask(harness)).answer is answer


async def test_too_many_failures_stop_it(harness: Harness) -> None:
    """After two targets that were not healed, the guard blocks: the playbook may treat the wrong fault."""
    await web(harness, 0, "succeeded", 9 * MINUTE)
    await web(harness, 1, "failed", 6 * MINUTE)
    await web(harness, 2, "escalated", 5 * MINUTE)

    verdict = await ask(harness)

    assert verdict.sentence == (
        "blocked: ramp of web stopped: 2 targets not healed within 30m (runs run-1, run-2); possible again at 12:24:00Z"
    )


async def test_it_starts_again_after_its_window(harness: Harness) -> None:
    """Runs before the window and cancelled runs do not count."""
    await web(harness, 0, "failed", HOUR)
    await web(harness, 1, "failed", HOUR)
    await web(harness, 2, "cancelled")

    assert (await ask(harness)).answer is GuardAnswer.ALLOW


async def test_one_target_alone_is_no_ramp(harness: Harness) -> None:
    """Earlier runs on the same target do not count; the cooldown and the circuit breaker limit them."""
    for number in range(3):
        await harness.acted(
            f"run-{number}", NOON - (number + 1) * MINUTE, playbook_="web", target="web-9", status_="failed"
        )

    assert (await ask(harness)).answer is GuardAnswer.ALLOW


async def test_it_is_unknown_without_its_store(harness: Harness) -> None:
    """If the store cannot be read, the answer is unknown."""
    await harness.broken("runs")

    assert (await ask(harness)).answer is GuardAnswer.UNKNOWN
