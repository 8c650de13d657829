"""Files and commands on another host by SSH: disk usage, prune, quarantine, undo and ``command.run``."""

from __future__ import annotations

import json
import os
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from demo.fleet.simulated_hosts import SimulatedHosts
from remediator.authoring.host_setup import allow_list
from remediator.clients.host.allowed_commands import AllowedCommand
from remediator.clients.host.disk import Pin
from remediator.core.attempt_calls import in_attempt
from remediator.core.outcome import Outcome
from remediator.errors import Refused, TargetError, TimedOut
from remediator.extensions import bindings
from remediator.extensions.actions.base import Action, EffectStatus
from remediator.extensions.actions.command_run import CommandRun
from remediator.extensions.actions.files_disk_use import FilesDiskUse
from remediator.extensions.actions.files_prune import FilesPrune
from remediator.extensions.actions.files_undo_prune import FilesUndoPrune
from remediator.extensions.checks.base import CheckAnswer
from remediator.extensions.checks.command_check import CommandCheck
from remediator.extensions.checks.disk_usage import DiskUsage
from remediator.extensions.clientset import ClientSet
from remediator.playbooks.inventory import Inventory, Service
from tests.support.action_runner import do, observe, plan, undo
from tests.support.servers.ssh_hosts import UNIT

ACTIONS: dict[str, Action] = {
    action.name: action for action in (FilesPrune(ClientSet()), FilesUndoPrune(ClientSet()), FilesDiskUse(ClientSet()))
}
PRUNE = ACTIONS["files.prune"]


def inventory_of(hosts: SimulatedHosts, **changes: Any) -> Inventory:
    """Return an inventory with one service on the first host, with a disk and backups."""
    data = hosts.place("web-1") / "data"
    entry = {
        "platform": {"kind": "systemd", "unit": UNIT},
        "host": hosts.host("web-1"),
        "disk": {"path": str(data), "full_percent": 99},
        "backups": {
            "path": str(data / "backups"),
            "keep": 1,
            "verify": "none",
            "quarantine": str(data / "q"),
            **changes,
        },
    }
    content = {"apiVersion": "remediator/v1", "kind": "Inventory", "services": {"web-1": entry}}
    return Inventory.model_validate({**content, "defaults": {"ssh": hosts.ssh}})


@pytest.fixture
def target(hosts: SimulatedHosts) -> Service:
    """Return a service with three backups of 1 MiB; the oldest is three days old."""
    folder = hosts.place("web-1") / "data" / "backups"
    folder.mkdir(parents=True)
    for days in (1, 2, 3):
        file = folder / f"{days}.rdb"
        file.write_bytes(bytes([days]) * 1024 * 1024)
        os.utime(file, (time.time() - days * 86400,) * 2)
    inventory = inventory_of(hosts)
    found = inventory.service("web-1")
    assert found.host is not None
    allowed = allow_list(inventory, {}, found.host)
    hosts.allow("web-1", folders=allowed["folders"])
    return found


def names(hosts: SimulatedHosts, folder: str = "backups") -> list[str]:
    """Return the names of the files in a folder of the data of the host."""
    return sorted(path.name for path in (hosts.place("web-1") / "data" / folder).glob("*"))


async def test_what_fills_the_disk(hosts: SimulatedHosts, target: Service) -> None:
    """The facts about a remote disk are the same as about a local disk."""
    found = await do(ACTIONS["files.disk_use"], target)
    assert found.output["kinds"]["backups"] >= 3 * 1024 * 1024
    assert sorted(each["file"] for each in found.output["top"]) == ["backups/1.rdb", "backups/2.rdb", "backups/3.rdb"]
    check = DiskUsage(ClientSet())
    seen = await check.observe(target, check.Parameters.model_validate({}))
    assert seen.answer is not CheckAnswer.UNKNOWN, seen.summary


async def test_old_remote_backups_are_moved_and_the_undo_restores_them(hosts: SimulatedHosts, target: Service) -> None:
    """Old backups move into the quarantine of the remote host, and the undo restores them."""
    call = await plan(PRUNE, target, older_than="36h")
    assert [each["name"] for each in call.arguments["files"]] == ["3.rdb", "2.rdb"]
    with in_attempt("attempt-1"):
        result = await do(PRUNE, target, call=call, older_than="36h")
    assert names(hosts) == ["1.rdb"]
    assert len(names(hosts, "q")) == 3, "two files and their list"
    assert result.outcome is Outcome.FAILED, "on the same filesystem, nothing was freed"
    with in_attempt("attempt-2"):
        assert (await undo(PRUNE, ACTIONS, target, call, result)).outcome is Outcome.OK
    assert (names(hosts), names(hosts, "q")) == (["1.rdb", "2.rdb", "3.rdb"], [])
    assert {name.partition(".")[0] for name in hosts.markers("web-1")} == {"attempt-1", "attempt-2"}


async def test_age_is_computed_with_the_clock_of_the_host(hosts: SimulatedHosts, target: Service) -> None:
    """The age is computed with the clock of the remote host, which is two days behind in this test."""
    wrapper = hosts.wrapper.read_text()
    hosts.wrapper.write_text(
        wrapper.replace(
            '"files-clock": lambda here, request: time.time()',
            '"files-clock": lambda here, request: time.time() - 172800',
        )
    )
    call = await plan(PRUNE, target, older_than="20h")
    assert [each["name"] for each in call.arguments["files"]] == ["3.rdb"]


@pytest.mark.promise(3)
async def test_a_prune_that_did_not_begin(hosts: SimulatedHosts, target: Service) -> None:
    """The remote host reports that the prune has not begun, and refuses a late request."""
    call = await plan(PRUNE, target, older_than="36h")
    with in_attempt("attempt-1"):
        assert (await observe(PRUNE, target, call, older_than="36h")).happened is EffectStatus.NO
    with in_attempt("attempt-1"), pytest.raises(Refused, match="was closed"):
        await do(PRUNE, target, call=call, older_than="36h")
    assert len(names(hosts)) == 3


async def test_a_remote_file_that_changed_after_planning_is_not_moved(hosts: SimulatedHosts, target: Service) -> None:
    """A backup that changed after planning is not moved."""
    call = await plan(PRUNE, target, older_than="36h")
    (hosts.place("web-1") / "data" / "backups" / "3.rdb").write_bytes(b"other")
    with in_attempt("attempt-1"), pytest.raises(TargetError, match=r"3\.rdb was changed after planning"):
        await do(PRUNE, target, call=call, older_than="36h")
    assert len(names(hosts)) == 3


@pytest.mark.promise(8)
async def test_other_folders_are_refused(hosts: SimulatedHosts, target: Service) -> None:
    """A folder outside of the host's allow-list is refused, and a file name that leads out of its folder too."""
    other = inventory_of(hosts, pattern="*").service("web-1")
    with pytest.raises(Refused, match="no entry with exactly these folders"):
        await bindings.volume(other).usage()
    with pytest.raises(TargetError, match="not a single file name"):
        await bindings.volume(target).backup_problem("../../secret")
    with in_attempt("attempt-1"), pytest.raises(TargetError, match="not a single file name"):
        await bindings.volume(target).take((Pin("a", 1, "0"),), "../x", datetime.now(UTC))
    with pytest.raises(TargetError, match="cannot be read here"):
        bindings.disk_folder(target)


async def test_an_incomplete_remote_backup_is_detected_on_its_host(hosts: SimulatedHosts, target: Service) -> None:
    """The tool that checks backups runs on the remote host."""
    assert await bindings.volume(target).backup_problem("1.rdb")


def commands(hosts: SimulatedHosts, **changes: Any) -> ClientSet:
    """Return clients with one command, which the allow-list of the first host contains too."""
    argv = ["/usr/bin/mkdir", "{folder}"]
    content = {"argv": argv, "parameters": {"folder": "/.*"}, "on_host": True, "destructive": False, **changes}
    command = AllowedCommand.model_validate(content)
    inventory = inventory_of(hosts)
    host = inventory.service("web-1").host
    assert host is not None
    hosts.allow("web-1", commands=allow_list(inventory, {"make": command}, host)["commands"])
    return ClientSet(commands={"make": command})


async def test_a_remote_command_runs_once_with_a_marker(hosts: SimulatedHosts, target: Service, tmp_path: Path) -> None:
    """The command runs once with a marker; from the marker, any process can read the exit status."""
    run, folder = CommandRun(commands(hosts)), str(tmp_path / "made")
    given = {"command": "make", "values": {"folder": folder}}
    call = await plan(run, target, **given)
    assert call.text == f"run on {target.host}: /usr/bin/mkdir {folder}"
    with in_attempt("attempt-1"):
        assert (await do(run, target, call=call, **given)).outcome is Outcome.OK
        seen = await observe(run, target, call, **given)
        assert (seen.happened, seen.summary) == (EffectStatus.YES, "the command exited with status 0")
    with in_attempt("attempt-2"):
        assert (await do(run, target, call=call, **given)).outcome is Outcome.FAILED
        assert (await observe(run, target, call, **given)).happened is EffectStatus.NO
    with in_attempt("attempt-3"):
        assert (await observe(run, target, call, **given)).happened is EffectStatus.NO


async def test_a_remote_command_that_takes_too_long_is_unknown(hosts: SimulatedHosts, target: Service) -> None:
    """After the timeout the outcome is unknown, and later observations do not change this."""
    run = CommandRun(commands(hosts, argv=["/usr/bin/sleep", "60"], parameters={}, timeout="300ms"))
    call = await plan(run, target, command="make")
    with in_attempt("attempt-1"):
        with pytest.raises(TimedOut, match="did not end within"):
            await do(run, target, call=call, command="make")
        seen = await observe(run, target, call, command="make")
        assert (seen.happened, "did not end within" in seen.summary) == (EffectStatus.UNKNOWN, True)


async def test_a_command_that_differs_on_the_host_is_not_run(hosts: SimulatedHosts, target: Service) -> None:
    """If the settings and the allow-list of the host define different commands, neither is run."""
    clients = commands(hosts, parameters={}, argv=["/usr/bin/true"])
    path = hosts.place("web-1") / "allow-list.json"
    path.write_text(path.read_text().replace("/usr/bin/true", "/usr/bin/false"))
    run = CommandRun(clients)
    with in_attempt("attempt-1"), pytest.raises(Refused, match="differs between the settings and the allow-list"):
        await do(run, target, command="make")
    assert json.loads(path.read_text())["commands"] and hosts.markers("web-1") == []


async def test_a_remote_check_needs_no_marker(hosts: SimulatedHosts, target: Service) -> None:
    """A read-only command needs no marker; a target without a host is refused."""
    check = CommandCheck(commands(hosts, argv=["/usr/bin/true"], parameters={}, read_only=True))
    parameters = check.Parameters.model_validate({"command": "make"})
    seen = await check.observe(target, parameters)
    assert (seen.answer, hosts.markers("web-1")) == (CheckAnswer.OK, [])

    here = target.model_copy(update={"host": None})
    seen = await check.ask(here, parameters)
    assert (seen.answer, "has no 'host' in the inventory; add it" in seen.summary) == (CheckAnswer.UNKNOWN, True)
