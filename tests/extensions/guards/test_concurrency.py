"""The guard ``concurrency``: at most one run acts on a target, and few act at the same time."""

from __future__ import annotations

import pytest

from remediator.extensions.guards.base import GuardAnswer
from tests.support.guard_history import MINUTE, NOON, Harness

pytestmark = pytest.mark.promise(4)


async def test_a_held_target_blocks(harness: Harness) -> None:
    """If another run holds the target, the guard blocks."""
    await harness.acted("run-1", NOON, playbook_="other", status_="running", holds=True)

    assert (await harness.verdict("concurrency")).sentence == "blocked: concurrency 1 for redis used by run run-1"


@pytest.mark.parametrize(
    ("settings", "name", "sentence"),
    [
        ({"playbook": 2}, "web", "blocked: concurrency 2 for playbook web used by runs run-0, run-1"),
        ({"global": 2}, "other", "blocked: concurrency 2 for all playbooks used by runs run-0, run-1"),
    ],
)
async def test_few_act_at_once(harness: Harness, settings: dict[str, int], name: str, sentence: str) -> None:
    """Per playbook and in total, a limited number of targets may be acted on at the same time."""
    for number in range(2):
        await harness.acted(
            f"run-{number}", NOON, playbook_="web", target=f"web-{number}", status_="running", holds=True
        )

    assert (await harness.verdict("concurrency", settings, name=name)).sentence == sentence


async def test_it_allows_when_no_run_holds_the_target(harness: Harness) -> None:
    """A finished run holds no target."""
    await harness.acted("run-1", NOON - MINUTE)

    assert (await harness.verdict("concurrency")).answer is GuardAnswer.ALLOW


async def test_it_is_unknown_without_its_store(harness: Harness) -> None:
    """If the store cannot be read, the answer is unknown."""
    await harness.broken("runs")

    assert (await harness.verdict("concurrency")).answer is GuardAnswer.UNKNOWN
