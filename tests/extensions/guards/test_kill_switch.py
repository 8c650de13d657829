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
from tests.support.guard_history import HOUR, NOON, Harness, row

pytestmark = pytest.mark.promise(10)


async def press(harness: Harness, scope: str = "global", name: str = "", **more: object) -> None:
    await harness.write(lambda tx: stops.create(tx, "stop-1", scope, name, "database move", "user:ann", **more))


async def test_it_blocks_everything(harness: Harness) -> None:
    """A global stop blocks, and the verdict has the person, the time, the reason and the command for the release."""
    await press(harness)

    verdict = await harness.verdict("kill_switch")

    assert verdict.sentence == (
        "blocked: everything stopped by user:ann at 12:00:00Z: database move "
        "(release it with: remediator stop release stop-1)"
    )
    assert verdict.inputs["reason"] == "database move"


@pytest.mark.parametrize(("scope", "name"), [("playbook", "redis-down"), ("service", "redis")])
async def test_it_blocks_what_it_names(harness: Harness, scope: str, name: str) -> None:
    """A stop of a playbook or a service blocks only this playbook or service."""
    await press(harness, scope, name)

    assert (await harness.verdict("kill_switch")).answer is GuardAnswer.BLOCK
    assert (await harness.verdict("kill_switch", name="other", target="app")).answer is GuardAnswer.ALLOW


async def test_it_allows_without_one(harness: Harness) -> None:
    """Without a stop, the guard allows."""
    assert (await harness.verdict("kill_switch")).answer is GuardAnswer.ALLOW


async def test_only_a_stop_with_an_expiry_ends_automatically(harness: Harness) -> None:
    """A stop with an expiry ends at that time, when the run is evaluated again; a stop without an expiry stays."""
    await press(harness, expires_at=NOON + HOUR)

    before = await harness.verdict("kill_switch")
    assert before.until == NOON + HOUR
    assert ", until 13:00:00Z: database move" in before.sentence

    harness.clock.time = NOON + HOUR
    assert (await harness.verdict("kill_switch")).answer is GuardAnswer.ALLOW

    await harness.write(lambda tx: stops.create(tx, "stop-2", "global", "", "for good", "user:ann"))
    harness.clock.time = NOON + timedelta(days=3000)
    assert (await harness.verdict("kill_switch")).answer is GuardAnswer.BLOCK


async def test_only_a_person_resumes(harness: Harness) -> None:
    """After a person releases the stop, the guard allows; a second release changes nothing."""
    await press(harness)

    assert await harness.write(lambda tx: stops.release(tx, "stop-1", "user:bob"))
    assert not await harness.write(lambda tx: stops.release(tx, "stop-1", "user:bob"))
    assert (await harness.verdict("kill_switch")).answer is GuardAnswer.ALLOW


async def test_it_is_unknown_without_its_store(harness: Harness) -> None:
    """If the store cannot be read, the answer is unknown."""
    await harness.broken("stops")

    verdict = await harness.verdict("kill_switch")

    assert (verdict.answer, verdict.reason) == (GuardAnswer.UNKNOWN, "guard_error")


@pytest.mark.parametrize(("content", "reason"), [("disk swap\n", "disk swap"), ("", "no reason given")])
async def test_a_file_stops_everything(tmp_path: Path, harness: Harness, content: str, reason: str) -> None:
    """A file STOP in the state folder blocks, also if it is empty; its content is the reason."""
    (tmp_path / "STOP").write_text(content)
    harness = Harness(harness.store, harness.clock, ClientSet(state=tmp_path))

    verdict = await harness.verdict("kill_switch")

    assert (verdict.answer, verdict.reason) == (GuardAnswer.BLOCK, "stop_file")
    assert verdict.text.endswith(f": {reason}")


async def test_the_file_becomes_a_stop_for_every_replica(tmp_path: Path, harness: Harness) -> None:
    """The file creates one stop in the store, which stays after the file is removed until a person releases it."""
    watching = MonitorSettings(tmp_path, None, (), None)
    (tmp_path / "STOP").write_text("disk swap")
    await run_monitors(harness.context, watching)
    await run_monitors(harness.context, watching)
    (tmp_path / "STOP").unlink()
    await run_monitors(harness.context, watching)

    standing = await harness.store.read(lambda connection: stops.list_active(connection, harness.clock.now()))

    assert [(stop.scope, stop.reason, stop.created_by) for stop in standing] == [
        ("global", "disk swap", "stop file of replica-1")
    ]
    assert (await harness.verdict("kill_switch")).answer is GuardAnswer.BLOCK


async def test_the_stop_file_is_checked_twice_as_often_as_the_store(
    harness: Harness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop looks for the file twice as often as for other changes."""
    passed: list[float] = []

    async def sleep(seconds: float) -> None:
        passed.append(seconds)
        if len(passed) == 3:
            (tmp_path / "STOP").write_text("disk swap")
        if len(passed) == 4:
            raise asyncio.CancelledError

    monkeypatch.setattr(harness.context.clock, "sleep", sleep)
    with pytest.raises(asyncio.CancelledError):
        await run_monitors_loop(harness.context, MonitorSettings(tmp_path, None, (), None), 1.0)

    standing = await harness.store.read(lambda connection: stops.list_active(connection, harness.clock.now()))
    assert passed == [0.5] * 4
    assert [stop.reason for stop in standing] == ["disk swap"]


async def test_runs_that_a_stop_blocked_are_due_after_its_release(harness: Harness) -> None:
    """Runs that a stop blocks are due at once after its release; other runs are not."""

    later = NOON + HOUR
    await press(harness)
    await harness.past(
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

    await harness.write(lambda tx: stops.release(tx, "stop-1", "user:bob"))

    held, other = [
        await harness.store.read(lambda connection, run=run: runs.get(connection, run)) for run in ("held", "other")
    ]
    assert (held.wake_at, other.wake_at) == (NOON, later)
