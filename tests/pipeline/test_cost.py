"""The loss by a restart of a real Redis is measured, shown and compared; no key is lost without an approval."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from remediator.core.identity import hash_token, make_token
from tests.support.servers import require, until
from tests.support.servers.remediator import PLAYBOOK, ROOT, Stack

pytestmark = [pytest.mark.process, pytest.mark.long]

ANN = make_token()
RESTART: dict[str, Any] = PLAYBOOK | {
    "conclude": [{"id": "down", "when": "true", "cause": "Redis needs a restart."}],
    "verify": {
        "settle": "100ms",
        "within": "20s",
        "checks": [{"check": "redis.info", "with": {"field": "total_commands_processed", "maximum": 500}}],
    },
}
"""A playbook that restarts a running Redis. Its verification fails while Redis has a high number of commands."""


class Place(Stack):
    """The small real stack, whose Redis keeps its data only in memory, or also in an append-only file."""

    def run_redis(self, *, append_only: bool) -> None:
        """Define the persistence of Redis before its start."""
        argv = f"redis-server --port {self.redis_port} --bind 127.0.0.1 --dir {self.supervisord.folder} --save ''"
        command = f"{argv} --appendonly {'yes' if append_only else 'no'}"
        self.supervisord.program("redis", command, "startsecs=1", "stopwaitsecs=2")

    def ask(self, *words: str) -> str:
        """Return the answer of Redis to one command."""
        argv = [require("redis-cli"), "-p", str(self.redis_port), *words]
        return subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60).stdout.strip()

    def write(self, keys: int, prefix: str = "key") -> None:
        """Write this number of keys."""
        argv = [require("redis-cli"), "-p", str(self.redis_port), "--pipe"]
        text = "".join(f"SET {prefix}{number} x\r\n" for number in range(keys))
        subprocess.run(argv, input=text, capture_output=True, text=True, check=True, timeout=60)

    @property
    def keys(self) -> int:
        """Return the number of keys in Redis."""
        return int(self.ask("DBSIZE"))

    def fire(self) -> None:
        """Send the alert."""
        self.alertmanager.fire(alertname="RedisDown", instance="redis:6379")

    def approve(self, run: dict[str, Any]) -> None:
        """Approve the pending request of a run."""
        argv = [sys.executable, "-m", "remediator", "approval", "approve", run["id"]]
        argv += ["--config", str(self.remediator.config)]
        environment = {**self.remediator.environment(), "REMEDIATOR_TOKEN": ANN}
        done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False, cwd=ROOT)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """Return the stack, not started."""
    made = Place(tmp_path)
    made.run_redis(append_only=False)
    made.remediator.playbooks = [RESTART]
    made.remediator.settings["access"] = {"people": "people.yaml"}
    people = {"ann": {"roles": ["approver"], "tokens": [hash_token(ANN)]}}
    (made.remediator.folder / "people.yaml").write_text(yaml.safe_dump({"kind": "People", "people": people}))
    try:
        yield made
    finally:
        made.stop()


@pytest.mark.promise(12)
def test_unsaved_writes_ask_a_person_in_mode_auto(place: Place) -> None:
    """900 keys are not saved: the run shows this, asks a person, and restarts Redis only after the approval."""
    place.start()
    place.write(900)
    pid = place.redis()["pid"]

    place.fire()
    run = place.remediator.wait_for("awaiting_approval")

    assert run["reason"] == "step_needs_approval"
    assert "unsaved writes: 900, tolerated: 0" in run["detail"]["text"]
    assert run["plan"]["steps"][0]["cost"]["unsaved_writes"] == 900
    assert run["plan"]["steps"][0]["cost"]["only_copy"] is True
    assert (place.redis()["pid"], place.keys) == (pid, 900)

    place.approve(run)
    place.remediator.wait_for("succeeded")
    assert place.redis()["pid"] != pid
    assert place.remediator.audit_has("cost of service.restart: unsaved writes: 900")


@pytest.mark.promise(12)
def test_an_append_only_file_makes_a_restart_cheap(place: Place) -> None:
    """Every write is in the append-only file: no approval is needed, and all keys are there after the restart."""
    place.run_redis(append_only=True)
    place.start()
    place.write(900)

    place.fire()
    run = place.remediator.wait_for("succeeded")

    assert run["plan"]["steps"][0]["cost"]["unsaved_writes"] == 0
    assert place.keys == 900


@pytest.mark.promise(12)
def test_a_declared_tolerance_needs_no_approval(place: Place) -> None:
    """The inventory tolerates the loss of 1000 writes of this cache."""
    place.remediator.inventory["services"]["redis"]["tolerance"] = {"unsaved_writes": 1000}
    place.start()
    place.write(900)

    place.fire()
    run = place.remediator.wait_for("succeeded")

    assert run["plan"]["steps"][0]["tolerance"]["unsaved_writes"] == 1000


@pytest.mark.promise(6)
def test_a_loss_that_grew_since_the_approval_is_asked_about_again(place: Place) -> None:
    """The approver saw 600 writes. If 5600 would be lost later, the approval does not cover them."""
    place.remediator.playbooks = [RESTART | {"mode": "approve"}]
    place.start()
    place.write(600)
    place.fire()
    first = place.remediator.wait_for("awaiting_approval")
    assert first["reason"] == "approval_needed"
    pid = place.redis()["pid"]

    place.write(5000, prefix="late")
    place.approve(first)

    def asked_again() -> bool:
        return bool(place.remediator.runs()[0]["reason"] == "step_needs_approval")

    until(asked_again, "the person is asked again")
    run = place.remediator.wait_for("awaiting_approval")
    assert "unsaved writes: 5,600" in run["detail"]["text"]
    assert (place.redis()["pid"], place.keys) == (pid, 5600)


def hang(place: Place) -> int:
    """Stop the process of Redis by SIGSTOP; return its process ID."""
    pid = int(place.redis()["pid"])
    os.kill(pid, signal.SIGSTOP)
    return pid


@pytest.mark.promise(12)
def test_a_hung_redis_with_unsaved_writes_is_not_restarted(place: Place) -> None:
    """Redis does not answer and has no append-only file open: the loss is unknown, so a person is asked."""
    place.remediator.playbooks = [PLAYBOOK]
    place.start()
    place.write(900)
    pid = hang(place)

    place.fire()
    run = place.remediator.wait_for("awaiting_approval")

    assert "unsaved writes: unknown (Redis does not answer" in run["detail"]["text"]
    os.kill(pid, signal.SIGCONT)
    assert (place.redis()["pid"], place.keys) == (pid, 900)


@pytest.mark.promise(12)
def test_a_hung_redis_with_an_append_only_file_is_restarted(place: Place) -> None:
    """The process has its append-only file open for writing, which contains every write, so no key is lost."""
    place.run_redis(append_only=True)
    place.remediator.playbooks = [PLAYBOOK]
    place.start()
    place.write(900)
    hang(place)

    place.fire()
    run = place.remediator.wait_for("succeeded")

    assert "append-only file" in run["plan"]["steps"][0]["cost"]["source"]
    assert place.keys == 900


@pytest.mark.promise(12)
def test_a_redis_that_cannot_save_is_not_restarted(place: Place) -> None:
    """MISCONF: the last save failed. A person decides, whatever number of writes is tolerated."""
    place.remediator.inventory["services"]["redis"]["tolerance"] = {"unsaved_writes": 1000}
    place.start()
    place.write(900)
    (place.supervisord.folder / "dump.rdb").mkdir()  # a snapshot cannot replace a folder
    place.ask("BGSAVE")
    until(lambda: "rdb_last_bgsave_status:err" in place.ask("INFO", "persistence"), "the save has failed")
    pid = place.redis()["pid"]

    place.fire()
    run = place.remediator.wait_for("awaiting_approval")

    assert "it cannot save its data now" in run["detail"]["text"]
    assert (place.redis()["pid"], place.keys) == (pid, 900)


def test_a_condition_can_use_the_cost(place: Place) -> None:
    """The step is only for a small loss; with a larger loss it is skipped, and the run is escalated."""
    step = RESTART["steps"][0] | {"when": "cost.unsaved_writes < 100"}
    place.remediator.playbooks = [RESTART | {"steps": [step]}]
    place.start()
    place.write(900)
    pid = place.redis()["pid"]

    place.fire()
    place.remediator.wait_for("escalated")

    assert (place.redis()["pid"], place.keys) == (pid, 900)


@pytest.mark.promise(12)
def test_an_undo_that_would_lose_writes_is_not_made(place: Place) -> None:
    """The second step fails, so the run is aborted. Its undo would restart Redis without an approval, so it is not
    made."""
    first = {
        "id": "limit",
        "action": "redis.config_set",
        "with": {"name": "maxclients", "value": "500"},
        "undo": {"action": "service.restart"},
        "on_success": "next",
    }
    second = {"id": "prune", "action": "files.prune", "on_failure": "abort"}
    place.remediator.playbooks = [RESTART | {"steps": [first, second]}]
    place.start()
    place.write(900)
    pid = place.redis()["pid"]

    place.fire()
    run = place.remediator.wait_for("failed")

    assert [step["outcome"] for step in run["steps"]] == ["ok"]
    assert (place.redis()["pid"], place.keys) == (pid, 900)
