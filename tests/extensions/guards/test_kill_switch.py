"""The guard ``kill_switch``: stops in the store and by file, for all playbooks, one playbook or one service."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from remediator.extensions.clientset import ClientSet
from remediator.extensions.guards.base import GuardAnswer
from remediator.runtime.monitors import MonitorSettings, run_monitors, run_monitors_loop
from remediator.storage.repositories import runs, stops
from tests.support.guard_history import HOUR, NOON, House, row

pytestmark = pytest.mark.promise(10)


async def press(house: House, scope: str = "global", name: str = "", **more: object) -> None:
    await house.write(lambda tx: stops.create(tx, "stop-1", scope, name, "database move", "user:ann", **more))


async def test_it_blocks_everything(house: House) -> None:
    """A global stop blocks, and the verdict has the person, the time, the reason and the command for the release."""
    await press(house)

    verdict = await house.verdict("kill_switch")

    assert verdict.sentence == (
        "blocked: everything stopped by user:ann at 12:00:00Z: database move "
        "(release it with: remediator stop release stop-1)"
    )
    assert verdict.inputs["reason"] == "database move"


@pytest.mark.parametrize(("scope", "name"), [("playbook", "redis-down"), ("service", "redis")])
async def test_it_blocks_what_it_names(house: House, scope: str, name: str) -> None:
    """A stop of a playbook or a service blocks only this playbook or service."""
    await press(house, scope, name)

    assert (await house.verdict("kill_switch")).answer is GuardAnswer.BLOCK
    assert (await house.verdict("kill_switch", name="other", target="app")).answer is GuardAnswer.ALLOW


async def test_it_allows_without_one(house: House) -> None:
    """Without a stop, the guard allows."""
    assert (await house.verdict("kill_switch")).answer is GuardAnswer.ALLOW


async def test_only_a_stop_with_an_expiry_ends_automatically(house: House) -> None:
    """A stop with an expiry ends at that time, when the run is evaluated again; a stop without an expiry stays."""
    await press(house, expires_at=NOON + HOUR)

    before = await house.verdict("kill_switch")
    assert before.until == NOON + HOUR
    assert ", until 13:00:00Z: database move" in before.sentence

    house.clock.time = NOON + HOUR
    assert (await house.verdict("kill_switch")).answer is GuardAnswer.ALLOW

    await house.write(lambda tx: stops.create(tx, "stop-2", "global", "", "for good", "user:ann"))
    house.clock.time = NOON + timedelta(days=3000)
    assert (await house.verdict("kill_switch")).answer is GuardAnswer.BLOCK


async def test_only_a_person_resumes(house: House) -> None:
    """After a person releases the stop, the guard allows; a second release changes nothing."""
    await press(house)

    assert await house.write(lambda tx: stops.release(tx, "stop-1", "user:bob"))
    assert not await house.write(lambda tx: stops.release(tx, "stop-1", "user:bob"))
    assert (await house.verdict("kill_switch")).answer is GuardAnswer.ALLOW


async def test_it_is_unknown_without_its_store(house: House) -> None:
    """If the store cannot be read, the answer is unknown."""
    await house.broken("stops")

    verdict = await house.verdict("kill_switch")

    assert (verdict.answer, verdict.reason) == (GuardAnswer.UNKNOWN, "guard_error")


@pytest.mark.parametrize(("content", "reason"), [("disk swap\n", "disk swap"), ("", "no reason given")])
async def test_a_file_stops_everything(tmp_path: Path, house: House, content: str, reason: str) -> None:
    """A file STOP in the state folder blocks, also if it is empty; its content is the reason."""
    (tmp_path / "STOP").write_text(content)
    house = House(house.store, house.clock, ClientSet(state=tmp_path))

    verdict = await house.verdict("kill_switch")

    assert (verdict.answer, verdict.reason) == (GuardAnswer.BLOCK, "stop_file")
    assert verdict.text.endswith(f": {reason}")


async def test_the_file_becomes_a_stop_for_every_replica(tmp_path: Path, house: House) -> None:
    """The file creates one stop in the store, which stays after the file is removed until a person releases it."""
    watching = MonitorSettings(tmp_path, None, (), None)
    (tmp_path / "STOP").write_text("disk swap")
    await run_monitors(house.context, watching)
    await run_monitors(house.context, watching)
    (tmp_path / "STOP").unlink()
    await run_monitors(house.context, watching)

    standing = await house.store.read(lambda connection: stops.list_active(connection, house.clock.now()))

    assert [(stop.scope, stop.reason, stop.created_by) for stop in standing] == [
        ("global", "disk swap", "stop file of house")
    ]
    assert (await house.verdict("kill_switch")).answer is GuardAnswer.BLOCK


async def test_the_stop_file_is_checked_twice_as_often_as_the_store(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop looks for the file twice as often as for other changes."""
    passed: list[float] = []

    async def sleep(seconds: float) -> None:
        passed.append(seconds)
        if len(passed) == 3:
            (tmp_path / "STOP").write_text("disk swap")
        if len(passed) == 4:
            raise asyncio.CancelledError

    monkeypatch.setattr(house.context.clock, "sleep", sleep)
    with pytest.raises(asyncio.CancelledError):
        await run_monitors_loop(house.context, MonitorSettings(tmp_path, None, (), None), 1.0)

    standing = await house.store.read(lambda connection: stops.list_active(connection, house.clock.now()))
    assert passed == [0.5] * 4
    assert [stop.reason for stop in standing] == ["disk swap"]


async def test_runs_that_a_stop_blocked_are_due_after_its_release(house: House) -> None:
    """Runs that a stop blocks are due at once after its release; other runs are not."""

    later = NOON + HOUR
    await press(house)
    await house.past(
        row(
            "held",
            "redis-down",
            "redis",
            "blocked",
            NOON,
            reason="guard_blocked",
            blocked_by="kill_switch",
            wake_at=later,
        ),
        row("other", "redis-down", "app", "blocked", NOON, blocked_by="cooldown", wake_at=later),
    )

    await house.write(lambda tx: stops.release(tx, "stop-1", "user:bob"))

    held, other = [
        await house.store.read(lambda connection, run=run: runs.get(connection, run)) for run in ("held", "other")
    ]
    assert (held.wake_at, other.wake_at) == (NOON, later)
