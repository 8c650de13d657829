"""``service.rollback`` and ``service.releases`` on a real supervisord: never to a release that was rolled back."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from remediator.core.outcome import Outcome
from remediator.errors import Refused, TargetError, Unreachable
from remediator.extensions.actions.base import EffectStatus
from remediator.extensions.actions.service_releases import ServiceReleases
from remediator.extensions.actions.service_rollback import ServiceRollback
from remediator.extensions.actions.service_scale import ServiceScale
from remediator.extensions.clientset import ClientSet
from remediator.extensions.platforms.supervisor import SupervisorPlatform
from remediator.playbooks.inventory import Service
from tests.support.action_runner import do, observe, plan, service
from tests.support.rollback_history import RollbackHistory
from tests.support.servers.supervisord import Supervisord

PROGRAM = """
import pathlib, sys, time
if pathlib.Path("bad").exists():
    sys.exit("ModuleNotFoundError: No module named 'prices'")
time.sleep(1000)
"""


class Shop:
    """A program with releases 1, 2 and 3. Release 3 is in use and does not start."""

    def __init__(self, folder: Path, supervisord: Supervisord) -> None:
        self.folder = folder
        self.current = folder / "current"
        for age, name in ((30, "1"), (20, "2"), (10, "3")):
            self.release(name, age)
        (folder / "releases" / "3" / "bad").touch()
        self.at("3")
        (folder / "run.py").write_text(PROGRAM)
        run = f"sh -c 'cd {folder}/current && exec {sys.executable} {folder}/run.py'"
        supervisord.program("app", run, "startsecs=1", "startretries=1", "stopwaitsecs=2")
        self.service = service(
            "app",
            platform={"kind": "supervisor", "url": supervisord.url, "program": "app"},
            releases={"releases": str(folder / "releases"), "current": str(self.current)},
        )

    def release(self, name: str, age: int) -> None:
        made = self.folder / "releases" / name
        made.mkdir(parents=True)
        at = datetime.now(UTC).timestamp() - age
        os.utime(made, (at, at))

    def at(self, name: str) -> None:
        """Deploy a release."""
        self.current.unlink(missing_ok=True)
        self.current.symlink_to(self.folder / "releases" / name)

    @property
    def release_in_use(self) -> str:
        return self.current.resolve().name


@pytest.fixture
def shop(tmp_path: Path, supervisord: Supervisord) -> Shop:
    """Return the program under a running supervisord."""
    made = Shop(tmp_path / "shop", supervisord)
    supervisord.start()
    return made


@pytest.fixture
async def world() -> AsyncIterator[ClientSet]:
    """Return clients with supervisord as the only platform."""
    platform = SupervisorPlatform()
    yield ClientSet(platforms={"supervisor": platform})
    await platform.aclose()


async def test_a_release_that_does_not_start_is_rolled_back(shop: Shop, world: ClientSet) -> None:
    """The link points to the earlier release, and the program runs."""
    action = ServiceRollback(world)
    call = await plan(action, shop.service, changed_within="1h")
    result = await do(action, shop.service, call=call, changed_within="1h")

    assert re.match(r"roll app back from 3 \(since \S+Z by \w+\) to 2 \(since \S+Z by \w+\): link ", call.text)
    assert result.outcome is Outcome.OK, result.summary
    assert shop.release_in_use == "2"
    assert (await world.platforms["supervisor"].status(shop.service)).healthy == 1


async def test_a_second_rollback_restores_an_earlier_release(shop: Shop, world: ClientSet) -> None:
    """The second rollback goes to an earlier release, never to a rolled back one, and fails at the first release."""
    action = ServiceRollback(world)
    await do(action, shop.service)
    await do(action, shop.service)
    assert shop.release_in_use == "1"

    with pytest.raises(TargetError, match=r"no release before 1 .*; not used, because they were rolled back: 3 .*; 2 "):
        await plan(action, shop.service)


async def test_a_release_that_was_rolled_back_is_not_chosen_after_a_new_deployment(
    shop: Shop, world: ClientSet
) -> None:
    """After a new deployment, a release that was rolled back before is not a target."""
    action = ServiceRollback(world)
    await do(action, shop.service)
    shop.release("4", 5)
    shop.at("4")

    assert (await plan(action, shop.service)).arguments["to"] == "2"


async def test_a_crash_between_plan_and_approval_does_not_change_the_plan(shop: Shop, world: ClientSet) -> None:
    """If the process of the program changes, the plan that was approved is still valid."""
    shop.at("2")
    platform = world.platforms["supervisor"]
    await platform.restart(shop.service, (await platform.status(shop.service)).pin, 2)
    action = ServiceRollback(world)
    call = await plan(action, shop.service)
    await platform.restart(shop.service, (await platform.status(shop.service)).pin, 2)
    again = await action.plan(shop.service, action.Parameters())

    assert again.pin != call.pin and again.comparable() == call.comparable()
    assert (await do(action, shop.service, call=call)).outcome is Outcome.OK


async def test_an_old_release_is_no_recent_change(shop: Shop, world: ClientSet) -> None:
    """A release that has been in use for longer than ``changed_within`` is not rolled back."""
    long_ago = (datetime.now(UTC) - timedelta(hours=2)).timestamp()
    os.utime(shop.current, (long_ago, long_ago), follow_symlinks=False)

    with pytest.raises(TargetError, match=r"longer than 1h: it is not a new release"):
        await plan(ServiceRollback(world), shop.service, changed_within="1h")
    result = await do(ServiceReleases(world), shop.service)
    assert (result.outcome, result.output["recent"]) == (Outcome.OK, False)
    assert 7200 <= result.output["age"] < 7300


async def test_a_target_that_changed_after_planning_is_refused(shop: Shop, world: ClientSet) -> None:
    """After another deployment, the rollback is refused, and the new release stays."""
    action = ServiceRollback(world)
    call = await plan(action, shop.service)
    shop.release("4", 0)
    shop.at("4")

    with pytest.raises(TargetError, match="switched to 4 after planning"):
        await do(action, shop.service, call=call)
    assert shop.release_in_use == "4"


async def test_a_link_outside_the_release_folder_is_refused(shop: Shop, world: ClientSet, tmp_path: Path) -> None:
    """A link that leads out of the folder of releases is refused."""
    shop.current.unlink()
    shop.current.symlink_to(tmp_path)

    with pytest.raises(TargetError, match="which is not a release"):
        await plan(ServiceRollback(world), shop.service)


async def test_an_unknown_outcome_is_observed(shop: Shop, world: ClientSet) -> None:
    """Before the call, the observation answers no; after it, yes, because of the link and a newer process."""
    action, since = ServiceRollback(world), datetime.now(UTC)
    call = await plan(action, shop.service)
    assert (await observe(action, shop.service, call, since=since)).happened is EffectStatus.NO

    await do(action, shop.service, call=call)
    assert (await observe(action, shop.service, call, since=since)).happened is EffectStatus.YES


async def test_a_switched_link_without_a_restart_is_unknown(shop: Shop, world: ClientSet) -> None:
    """After a crash between the switch and the restart, the outcome is unknown, and the call is not repeated."""
    action, since = ServiceRollback(world), datetime.now(UTC)
    call = await plan(action, shop.service)
    shop.at("2")

    assert (await observe(action, shop.service, call, since=since)).happened is EffectStatus.UNKNOWN


async def test_recent_changes_are_evidence(shop: Shop, world: ClientSet) -> None:
    """The evidence has the release, its start time and the earlier releases."""
    result = await do(ServiceReleases(world), shop.service)

    assert result.outcome is Outcome.OK
    assert result.output["current"] == "3"
    assert result.output["before"] == ["2", "1"]


async def test_without_supervisord_nothing_is_switched(shop: Shop, world: ClientSet, supervisord: Supervisord) -> None:
    """If supervisord does not answer, the link to the current release is not changed."""
    action = ServiceRollback(world)
    call = await plan(action, shop.service)
    supervisord.stop()

    with pytest.raises(Unreachable):
        await do(action, shop.service, call=call)
    assert shop.release_in_use == "3"


async def test_releases_that_are_missing_in_the_inventory_are_named(shop: Shop, world: ClientSet) -> None:
    """The error names the missing inventory entry."""
    bare: Service = shop.service.model_copy(update={"releases": None})

    with pytest.raises(TargetError, match="service 'app' has no 'releases' in the inventory"):
        await plan(ServiceRollback(world), bare)


async def test_supervisord_does_not_scale(shop: Shop, world: ClientSet) -> None:
    """``service.scale`` is refused, and the error says that supervisord does not support it."""
    with pytest.raises((TargetError, Refused), match="the platform supervisor does not support it"):
        await plan(ServiceScale(world), shop.service, by=1)


async def test_every_bad_release_is_rolled_back_to_the_last_good_one(shop: Shop, world: ClientSet) -> None:
    """Bad releases follow each other, and the first one returns: each rollback restores the last good release."""
    history = RollbackHistory(ServiceRollback(world), shop.service)
    for number, name in enumerate(("3", "4", "5", "3")):
        if number:
            if not (shop.folder / "releases" / name).exists():
                shop.release(name, 10 - number)
                (shop.folder / "releases" / name / "bad").touch()
            shop.at(name)
        await history.roll_back()
        assert shop.release_in_use == "2"


async def test_the_memory_of_the_store_survives_the_loss_of_the_record(shop: Shop, world: ClientSet) -> None:
    """If a deployment tool deletes the record of rolled back releases, the store still knows them."""
    history = RollbackHistory(ServiceRollback(world), shop.service)
    await history.roll_back()
    shop.release("4", 5)
    shop.at("4")
    (shop.folder / "releases" / ".rolled-back.json").unlink()

    assert (await history.plan()).arguments["to"] == "2"


async def test_a_restarted_program_has_another_identity(shop: Shop, world: ClientSet) -> None:
    """After a restart, ``lives`` identifies another process of the same program."""
    platform = world.platforms["supervisor"]
    shop.at("2")
    before = await platform.status(shop.service)
    await platform.restart(shop.service, before.pin, 5)

    after = await platform.status(shop.service)

    assert set(after.lives) == {"app"} and after.lives["app"] != before.lives.get("app")
