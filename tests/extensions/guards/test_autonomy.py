"""The guard ``autonomy``: circuit breakers lower a mode, only people raise it, and each change is recorded."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remediator.extensions.guards.base import GuardAnswer
from remediator.storage.repositories import audit, autonomy
from tests.support.guard_history import Harness

pytestmark = pytest.mark.promise(12)


async def put(harness: Harness, mode: str, written: str = "auto", who: str = "user:ann") -> None:
    await harness.write(lambda tx: autonomy.set_mode(tx, "redis-down", mode, written, who, "two bad nights"))


async def effective(harness: Harness, written: str) -> str:
    return await harness.store.read(lambda connection: autonomy.effective_mode(connection, "redis-down", written))


async def test_a_demotion_to_approve_requires_an_approval(harness: Harness) -> None:
    """If a playbook is lowered to ``approve``, a run that began in ``auto`` needs an approval."""
    await put(harness, "approve", who="remediator/a")

    verdict = await harness.verdict("autonomy")

    assert verdict.answer is GuardAnswer.UNKNOWN
    assert verdict.sentence == (
        "unknown: remediator/a lowered the mode of redis-down from auto to approve at 12:00:00Z: two bad nights"
    )


@pytest.mark.parametrize("mode", ["observe", "shadow"])
async def test_a_demotion_to_observe_blocks(harness: Harness, mode: str) -> None:
    """If a playbook is lowered to ``observe``, it changes nothing any more, also in runs in progress."""
    await put(harness, mode)

    assert (await harness.verdict("autonomy", mode="approve")).answer is GuardAnswer.BLOCK


async def test_it_allows_a_playbook_that_was_not_demoted(harness: Harness) -> None:
    """Without a change of the mode, or after a raise, a run continues in the mode with which it started."""
    assert (await harness.verdict("autonomy")).answer is GuardAnswer.ALLOW
    await put(harness, "auto", written="approve")
    assert (await harness.verdict("autonomy", mode="approve")).answer is GuardAnswer.ALLOW


async def test_it_is_unknown_without_its_store(harness: Harness) -> None:
    """If the store cannot be read, the answer is unknown."""
    await harness.broken("key_values")

    assert (await harness.verdict("autonomy")).reason == "guard_error"


async def test_a_promotion_counts_until_the_file_changes(harness: Harness) -> None:
    """A person can raise the mode above the mode in the file; after the file changes, the lower of the two modes
    applies."""
    await put(harness, "auto", written="approve")

    assert await effective(harness, "approve") == "auto"
    assert await effective(harness, "shadow") == "shadow"
    assert await effective(harness, "auto") == "auto"


async def test_a_change_of_mode_is_recorded(harness: Harness) -> None:
    """The audit entry has the person, the reason, the old mode and the new mode."""
    await put(harness, "approve")

    entry = await harness.store.read(lambda connection: next(audit.iterate(connection)))

    assert (entry.kind, b'"from":"auto"' in entry.canonical) == ("operator.command", True)


@given(
    put=st.sampled_from(autonomy.MODES), written=st.sampled_from(autonomy.MODES), mode=st.sampled_from(autonomy.MODES)
)
def test_the_lower_mode_is_chosen(put: str, written: str, mode: str) -> None:
    """The modes have a total order from ``observe`` to ``auto``."""
    assert autonomy.MODES.index(autonomy.lower_mode(put, autonomy.lower_mode(written, mode))) == min(
        map(autonomy.MODES.index, (put, written, mode))
    )
