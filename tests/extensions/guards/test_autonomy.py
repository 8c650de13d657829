"""Ladder: breakers demote, only people promote, and who did what is on record."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remediator.extensions.guards.base import GuardAnswer
from remediator.storage.repositories import audit, autonomy
from tests.support.guard_history import House

pytestmark = pytest.mark.promise(12)


async def put(house: House, mode: str, written: str = "auto", who: str = "user:ann") -> None:
    await house.write(lambda tx: autonomy.set_mode(tx, "redis-down", mode, written, who, "two bad nights"))


async def effective(house: House, written: str) -> str:
    return await house.store.read(lambda connection: autonomy.effective_mode(connection, "redis-down", written))


async def test_a_demotion_makes_runs_ask(house: House) -> None:
    """A run that began in auto asks, once its playbook is put to approve."""
    await put(house, "approve", who="remediator/a")

    verdict = await house.verdict("autonomy")

    assert verdict.answer is GuardAnswer.UNKNOWN
    assert verdict.sentence == (
        "unknown: remediator/a lowered the mode of redis-down from auto to approve at 12:00:00Z: two bad nights"
    )


@pytest.mark.parametrize("mode", ["observe", "shadow"])
async def test_a_demotion_to_watching_blocks(house: House, mode: str) -> None:
    """A playbook that may only watch does nothing any more, also in runs that are under way."""
    await put(house, mode)

    assert (await house.verdict("autonomy", mode="approve")).answer is GuardAnswer.BLOCK


async def test_it_allows_what_nobody_demoted(house: House) -> None:
    """Without a word, and on a rung as high or higher, a run goes on as it began."""
    assert (await house.verdict("autonomy")).answer is GuardAnswer.ALLOW
    await put(house, "auto", written="approve")
    assert (await house.verdict("autonomy", mode="approve")).answer is GuardAnswer.ALLOW


async def test_it_cannot_tell_without_its_store(house: House) -> None:
    """Unreadable means that nothing is done."""
    await house.broken("key_values")

    assert (await house.verdict("autonomy")).reason == "guard_error"


async def test_a_promotion_counts_until_the_file_changes(house: House) -> None:
    """Promoted above its file by a person; when the file is changed, the lower of the two counts."""
    await put(house, "auto", written="approve")

    assert await effective(house, "approve") == "auto"
    assert await effective(house, "shadow") == "shadow"
    assert await effective(house, "auto") == "auto"


async def test_moving_a_playbook_is_on_record(house: House) -> None:
    """Who, why, from where, to where."""
    await put(house, "approve")

    entry = await house.store.read(lambda connection: next(audit.iterate(connection)))

    assert (entry.kind, b'"from":"auto"' in entry.canonical) == ("operator.command", True)


@given(
    put=st.sampled_from(autonomy.MODES), written=st.sampled_from(autonomy.MODES), mode=st.sampled_from(autonomy.MODES)
)
def test_the_lower_rung_is_the_lower(put: str, written: str, mode: str) -> None:
    """Lower is a total order from observe to auto."""
    assert autonomy.MODES.index(autonomy.lower_mode(put, autonomy.lower_mode(written, mode))) == min(
        map(autonomy.MODES.index, (put, written, mode))
    )
