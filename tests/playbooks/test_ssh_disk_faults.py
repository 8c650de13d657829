"""Full file systems of hosts behind real sshd, handled by the playbook of the cookbook.

Each host has two small file systems in its own mount namespace, at the same paths. The allow-list of a host is the
output of ``remediator host allow-list``. Each test fills a file system, and asserts the cause, the files that are moved
on each host, and the files that must stay.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.servers import require
from tests.support.servers.recipe import causes, lines
from tests.support.servers.ssh_fleet import FAR, STRANGER, SshFleet

pytestmark = [pytest.mark.process, pytest.mark.long]

MIB = 1024 * 1024
_MOUNT = "mount -t tmpfs -o mode=755,size="
_MOUNTS = f'{_MOUNT}16m none "$0" && {_MOUNT}32m none "$1" && shift && exec "$@"'


class Disks(SshFleet):
    """Hosts with a file system of 16 MiB, and a larger file system for the quarantine."""

    def __init__(self, folder: Path) -> None:
        self.srv, self.quarantine = folder / "srv", folder / "quarantine"
        for each in (self.srv, self.quarantine):
            each.mkdir()
        prefix = ("unshare", "--mount", "--propagation", "private", "sh", "-c", _MOUNTS)
        super().__init__(
            folder,
            "filesystem-almost-full",
            ["shop.service"],
            {"/srv": str(self.srv), "/mnt/quarantine": str(self.quarantine)},
            (*prefix, str(self.srv), str(self.quarantine)),
        )
        self.series = self._series
        self.more: dict[str, list[tuple[str, dict[str, str], float]]] = {}
        """Series of other file systems, by host."""

    def seen(self, host: str, path: Path) -> Path:
        """Return a path on a host."""
        return self.simulated[host].seen(path)

    def _series(self, host: str) -> str:
        """Return the metrics of the filesystem collector of node exporter."""
        usage = os.statvfs(self.seen(host, self.srv))
        labels = {"mountpoint": str(self.srv), "fstype": "tmpfs"}
        found = _of_filesystem(labels, usage.f_bavail * usage.f_frsize, usage.f_blocks * usage.f_frsize)
        return lines([*found, *self.more.get(host, [])])

    def write(self, host: str, path: str, size: int, days: float) -> None:
        """Write a file to the file system of a host, with this age in days."""
        file = self.seen(host, self.srv) / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(os.urandom(size))
        os.utime(file, (time.time() - days * 86_400,) * 2)

    def files(self, host: str, below: Path | None = None) -> dict[str, bytes]:
        """Return all files of a host below its small file system or another folder, with their contents."""
        top = self.seen(host, below or self.srv)
        return {str(each.relative_to(top)): each.read_bytes() for each in top.rglob("*") if each.is_file()}

    def command(self, *arguments: str) -> str:
        """Return the output of a command of the installation."""
        argv = [sys.executable, "-m", "remediator", *arguments, "--config", str(self.remediator.config)]
        done = subprocess.run(argv, env=dict(self.remediator.environment()), capture_output=True, text=True)
        return done.stdout


def _of_filesystem(labels: dict[str, str], free: float, size: float) -> list[tuple[str, dict[str, str], float]]:
    values = {"avail_bytes": free, "size_bytes": size, "readonly": 0}
    return [(f"node_filesystem_{name}", labels, value) for name, value in values.items()]


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Disks]:
    """Return hosts whose file systems have much space."""
    if subprocess.run([require("unshare"), "--mount", "true"], capture_output=True).returncode:
        pytest.skip("needs the right to make a mount namespace")
    made = Disks(tmp_path)
    with made.running():
        printed = json.loads(made.command("host", "allow-list", "shop-web-1"))
        for name, each in made.simulated.items():
            each.allow(name, folders=printed["folders"])
            made.write(name, "shop/ready", 1, 30)
        yield made


def dumps(fleet: Disks, host: str, days: list[float], size: int) -> None:
    """Write dumps with these ages in days."""
    for each in days:
        fleet.write(host, f"shop/dumps/{each:g}d.dump", size, each)


def test_old_dumps_are_moved_and_everything_else_stays(fleet: Disks) -> None:
    """Only the two oldest dumps are moved. Newer dumps, other files, other folders and other hosts do not change."""
    for host in ("web-1", "web-2"):
        fleet.write(host, "shop/dumps/notes.txt", 1000, 90)
        fleet.write(host, "other/90d.dump", 100_000, 90)
    dumps(fleet, "web-1", [40, 30, 20, 10], 2 * MIB)
    dumps(fleet, "web-2", [40, 30, 20, 3, 2, 1], int(2.5 * MIB))
    before = {host: fleet.files(host) for host in fleet.simulated}
    fleet.write("web-2", "shop/index", int(0.55 * MIB), 0)  # the file system is almost full now
    run = fleet.run("shop-web-2")
    assert (causes(run), run["status"]) == ({"dumps"}, "succeeded"), str(run)

    moved = {"shop/dumps/40d.dump", "shop/dumps/30d.dump"}
    now = fleet.files("web-2")
    assert {name: now[name] for name in before["web-2"].keys() - moved} == {
        name: content for name, content in before["web-2"].items() if name not in moved
    }
    assert not moved & now.keys()
    kept = set(fleet.files("web-2", fleet.quarantine).values())
    assert {before["web-2"][name] for name in moved} <= kept, "the quarantine has them, on another file system"
    for host in fleet.simulated.keys() - {"web-2"}:
        assert fleet.files(host) == before[host], host
    assert fleet.changes().keys() == {"web-2"}


@pytest.mark.parametrize(("days", "size"), [([6, 5, 4, 3, 2, 1], 2.6), ([60, 50, 40], 5.2)], ids=["young", "newest"])
def test_dumps_that_must_stay_are_not_moved(fleet: Disks, days: list[float], size: float) -> None:
    """The dumps are younger than a week, or are the newest three: a person is asked for more space."""
    dumps(fleet, "web-2", days, int(size * MIB))
    before = fleet.files("web-2")
    run = fleet.run("shop-web-2")
    assert (causes(run), run["status"]) == ({"dumps"}, "escalated"), str(run)
    assert "can be moved" in repr(run), str(run)
    assert fleet.files("web-2") == before
    assert fleet.changes() == {}


def test_other_files_are_named_and_nothing_is_moved(fleet: Disks) -> None:
    """A log fills the file system, so moving the old dumps would not be the remedy: nothing is moved."""
    dumps(fleet, "web-2", [60, 50, 40, 30], MIB // 2)
    fleet.write("web-2", "shop/debug.log", int(13.5 * MIB), 0)
    before = fleet.files("web-2")
    run = fleet.run("shop-web-2")
    assert (causes(run), run["status"]) == ({"other-files"}, "escalated"), str(run)
    assert "debug.log" in repr(run), str(run)
    assert fleet.files("web-2") == before
    assert fleet.changes() == {}


@pytest.mark.promise(8)
def test_a_host_that_was_not_discovered_is_escalated(fleet: Disks) -> None:
    """A host that was not discovered is not changed, although SSH and its allow-list would permit it."""
    dumps(fleet, STRANGER, [60, 50, 40, 30, 20, 10], int(2.6 * MIB))
    before = fleet.files(STRANGER)
    assert f"service='shop-{STRANGER}' is not a service of the inventory" in fleet.escalated()
    assert fleet.files(STRANGER) == before
    assert fleet.changes() == {}


@pytest.mark.promise(8)
def test_another_file_system_of_the_host_is_escalated(fleet: Disks) -> None:
    """The alert is about the root file system, for which the playbook has no step."""
    dumps(fleet, "web-1", [60, 50, 40, 30], MIB)
    before = fleet.files("web-1")
    fleet.more["web-1"] = _of_filesystem({"mountpoint": "/", "fstype": "ext4"}, 1.0, 1000.0)
    run = fleet.run("shop-web-1")
    assert (run["status"], run["reason"]) == ("escalated", "not_about_target"), str(run)
    assert fleet.files("web-1") == before
    assert fleet.changes() == {}


def test_a_host_that_is_cut_off_or_allows_less_is_escalated(fleet: Disks) -> None:
    """No file is moved on either host, and neither run counts as healed."""
    fleet.simulated["web-3"].allow("web-3")
    fleet.link.cut()
    for host in (FAR, "web-3"):
        dumps(fleet, host, [60, 50, 40, 30, 20, 10], int(2.6 * MIB))
    before = {host: fleet.files(host) for host in fleet.simulated}
    ended: dict[str, dict[str, Any]] = {host: fleet.run(f"shop-{host}") for host in (FAR, "web-3")}
    assert {run["status"] for run in ended.values()} == {"escalated"}, ended
    assert "no entry with exactly these folders" in repr(ended["web-3"])
    assert {host: fleet.files(host) for host in fleet.simulated} == before
    assert fleet.changes() == {}


def test_the_doctor_knows_discovered_hosts(fleet: Disks) -> None:
    """The doctor compares the allow-list of each host with the needs of the inventory."""
    fleet.simulated["web-3"].allow("web-3")
    said = fleet.command("doctor")
    assert said.count("FAILED   hosts") == 1, said
    assert f"its allow-list does not allow the folders of {fleet.srv}/shop" in said, said
