"""The memory of releases and remedies, from the alert to the rollback, on a real supervisord and Alertmanager."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.support.servers import until
from tests.support.servers.remediator import PLAYBOOK, ROOT, Stack

pytestmark = [pytest.mark.promise(12), pytest.mark.process, pytest.mark.long]

PROGRAM = """
import pathlib, sys, time
lasts = pathlib.Path("lasts")
time.sleep(float(lasts.read_text()) if lasts.exists() else 1000)
sys.exit("ModuleNotFoundError: No module named 'prices'")
"""
"""A program that exits after the seconds in the file ``lasts`` of its release, or serves if there is no file."""


def playbook(number: int, **verify: Any) -> dict[str, Any]:
    """Return a playbook for one alert, with an alert name of its own, so each alert is a separate incident."""
    return PLAYBOOK | {
        "name": f"app-crash-loop-{number}",
        "match": {"alertname": f"AppCrashLoop{number}"},
        "target": "app",
        "diagnose": [{"id": "running", "check": "service.running"}],
        "conclude": [{"id": "crashes", "when": 'evidence.running.status == "fail"', "cause": "The app crashes."}],
        "steps": [{"id": "rollback", "action": "service.rollback", "for": "crashes"}],
        "verify": {"settle": "100ms", "within": "20s", "checks": [{"check": "service.running"}], **verify},
    }


class Shop(Stack):
    """The small real stack with an app whose releases are folders."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.releases, self.current = folder / "releases", folder / "current"
        (folder / "run.py").write_text(PROGRAM)
        run = f"sh -c 'cd {self.current} && exec {sys.executable} {folder}/run.py'"
        self.supervisord.program("app", run, "startsecs=0", "autorestart=true", "stopwaitsecs=2")
        self.remediator.inventory["services"]["app"] = {
            "platform": {"kind": "supervisor", "url": self.supervisord.url, "program": "app"},
            "releases": {"releases": str(self.releases), "current": str(self.current)},
            "alert_label_values": {"service": ["app"]},
        }
        self.remediator.playbooks = [playbook(number) for number in (1, 2, 3)]
        self._made = 0

    def deploy(self, name: str, lasts: float | None = None) -> None:
        """Deploy a release that exits after this number of seconds, or serves."""
        release = self.releases / name
        release.mkdir(parents=True, exist_ok=True)
        if lasts is not None:
            (release / "lasts").write_text(str(lasts))
        self._made += 1
        at = time.time() - 100 + self._made
        os.utime(release, (at, at))
        self.current.unlink(missing_ok=True)
        self.current.symlink_to(release)

    def run(self, number: int, status: str) -> dict[str, Any]:
        """Send an alert, and return its run when the run has this status."""
        self.alertmanager.fire(alertname=f"AppCrashLoop{number}", service="app")

        def found() -> list[dict[str, Any]]:
            runs = self.remediator.runs()
            return [each for each in runs if each["playbook"].endswith(str(number)) and each["status"] == status]

        until(lambda: bool(found()), f"run {number} is {status}: {self.remediator.runs()}")
        shown: dict[str, Any] = self.remediator.get(f"/api/v1/runs/{found()[0]['id']}")
        return shown

    def return_checks(self) -> int:
        """Return how often the service checked whether a later run is a relapse."""
        query = "SELECT count(*) FROM timers WHERE done_at IS NOT NULL AND content LIKE '%later_run%'"
        with closing(sqlite3.connect(self.remediator.folder / "state/remediator.db")) as connection:
            return int(connection.execute(query).fetchone()[0])

    def memory(self, *arguments: str) -> str:
        """Run a command of the memory, and return its output."""
        argv = [sys.executable, "-m", "remediator", "memory", *arguments, "--config", str(self.remediator.config)]
        return subprocess.run(argv, capture_output=True, text=True, check=True, cwd=ROOT).stdout


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    """Return the stack with a good first release, not started."""
    made = Shop(tmp_path)
    made.deploy("1")
    try:
        yield made
    finally:
        made.stop()


@pytest.mark.promise(7)
def test_a_later_bad_release_is_no_relapse_of_the_rollback_before(shop: Shop) -> None:
    """The same playbook rolls back one release after another; a new bad release is not a relapse of the earlier run."""
    shop.remediator.settings["timing"] = {"resolve_grace": "0s"}
    shop.deploy("2", lasts=0)
    shop.start()
    first = shop.run(1, "succeeded")
    shop.alertmanager.resolve(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ}", alertname="AppCrashLoop1", service="app")
    path = f"/api/v1/runs/{first['id']}"
    until(lambda: {item["status"] for item in shop.remediator.get(path)["alerts"]} == {"closed"}, "it is over")
    shop.deploy("3", lasts=0)
    shop.control("stop", "app")
    shop.alertmanager.fire(alertname="AppCrashLoop1", service="app")
    until(lambda: len(shop.remediator.runs()) == 2 and shop.remediator.runs()[0]["finished_at"], "the second run")
    second = shop.remediator.get(f"/api/v1/runs/{shop.remediator.runs()[0]['id']}")
    assert (second["status"], shop.current.resolve().name) == ("succeeded", "1")
    call = second["plan"]["steps"][0]["call"]
    assert "roll app back from 3 (since " in call["text"] and "did not help" not in str(call)
    until(lambda: shop.return_checks() == 1, "it was checked whether the fault returned")
    assert not shop.remediator.audit_has("run.ineffective")


@pytest.mark.promise(7)
def test_the_restored_release_that_dies_is_a_relapse(shop: Shop) -> None:
    """If the restored release exits and no other was deployed, people are notified that the run did not help."""
    shop.remediator.settings["timing"] = {"resolve_grace": "0s"}
    shop.deploy("2", lasts=0)
    shop.start()
    first = shop.run(1, "succeeded")
    shop.alertmanager.resolve(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ}", alertname="AppCrashLoop1", service="app")
    path = f"/api/v1/runs/{first['id']}"
    until(lambda: {item["status"] for item in shop.remediator.get(path)["alerts"]} == {"closed"}, "it is over")
    (shop.current.resolve() / "lasts").write_text("0")
    shop.control("stop", "app")
    shop.alertmanager.fire(alertname="AppCrashLoop1", service="app")
    until(lambda: shop.remediator.audit_has("run.ineffective"), "the relapse is recorded")


def test_every_bad_release_is_rolled_back_to_the_last_good_one(shop: Shop) -> None:
    """A third bad release is rolled back too, after a restart of remediator and without the record beside the
    releases."""
    shop.deploy("2", lasts=0)
    shop.start()
    for number, bad in enumerate(("2", "3", "4"), start=1):
        if number > 1:
            shop.deploy(bad, lasts=0)
            shop.control("stop", "app")
        if number == 3:
            (shop.releases / ".rolled-back.json").unlink()
            shop.remediator.kill()
            shop.remediator.start()
        run = shop.run(number, "succeeded")
        assert shop.current.resolve().name == "1"
        assert f"roll app back from {bad} (since " in run["plan"]["steps"][0]["call"]["text"]

    listed = shop.memory("list", "--target", "app")

    assert [listed.count(f"release '{name} (since") for name in "1234"] == [1, 1, 1, 1]
    assert listed.count("was rolled back") == 3 and listed.count("was restored and proved") == 1
    assert shop.remediator.audit_has("memory.recorded")


def test_a_remedy_that_did_not_help_asks_a_person_the_next_time(shop: Shop) -> None:
    """Each release exits after a second, so no run succeeds: the next run needs an approval until the entry is
    cleared."""
    shop.remediator.playbooks = [playbook(number, within="4s", stable="3s") for number in (1, 2, 3)]
    shop.deploy("1", lasts=1)
    shop.deploy("0", lasts=1)
    shop.deploy("2", lasts=0)
    shop.start()
    first = shop.run(1, "escalated")
    shop.control("stop", "app")

    second = shop.run(2, "awaiting_approval")

    assert second["reason"] == "guard_unknown" and second["detail"]["guard"] == "remedy_memory"
    assert "did not help app at " in second["detail"]["text"] and first["id"] in second["detail"]["text"]
    assert "it did not help app at" in second["plan"]["steps"][0]["call"]["measurement"]
    entry = next(line for line in shop.memory("list").splitlines() if "remedy" in line).split()[0]
    assert shop.memory("clear", entry, "--reason", "the network was down").startswith(f"{entry} cleared")
    assert "remedy" not in shop.memory("list")


@pytest.mark.promise(7)
def test_a_release_that_dies_again_within_the_stable_time_is_not_healed(shop: Shop) -> None:
    """The release runs for two seconds each time, and supervisord starts it again: this is not a success."""
    shop.remediator.playbooks = [playbook(1, within="6s", stable="5s")]
    shop.deploy("1", lasts=2)
    shop.deploy("2", lasts=0)
    shop.start()

    run = shop.run(1, "escalated")

    assert run["steps"][0]["outcome"] == "ok" and shop.current.resolve().name == "1"
