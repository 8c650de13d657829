"""Temporary steps on real servers: undone at the end of their time, also after a crash and on abort."""

from __future__ import annotations

import json
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.support import commands
from tests.support.servers import until
from tests.support.servers.receivers import receiver
from tests.support.servers.remediator import PLAYBOOK, Stack

MEASURE = {
    "id": "policy",
    "action": "redis.config_set",
    "with": {"name": "maxmemory-policy", "value": "allkeys-lru"},
    "undo": {"after": "2s"},
}

POLICY = {
    "check": "redis.info",
    "with": {"section": "memory", "field": "maxmemory_policy", "equals": "allkeys-lru"},
}


def playbook(*steps: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        **PLAYBOOK,
        "name": "redis-memory",
        "match": {"alertname": "RedisHighMemory"},
        "diagnose": [],
        "about": {"any": "the alert of these tests has no labels"},
        "conclude": [{"id": "full", "when": "true", "cause": "Redis has no policy for a full memory."}],
        "steps": list(steps),
        "verify": {"settle": "100ms", "within": "5s", "checks": [POLICY]},
        **more,
    }


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Callable[..., Stack]]:
    """Start the small real stack with a playbook of the test."""
    stacks: list[Stack] = []

    def start(made: dict[str, Any], **settings: Any) -> Stack:
        stack = Stack(tmp_path)
        stacks.append(stack)
        stack.remediator.playbooks = [made]
        stack.remediator.settings |= settings
        stack.start()
        return stack

    yield start
    for stack in stacks:
        stack.stop()


def policy(stack: Stack) -> str:
    """Return the memory policy from Redis."""
    argv = ["redis-cli", "-p", str(stack.redis_port), "CONFIG", "GET", "maxmemory-policy"]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split()[-1]


def test_a_temporary_step_is_undone_automatically(started: Callable[..., Stack]) -> None:
    """The step is in effect for its time; then a separate audited attempt restores the old value."""
    stack = started(playbook(MEASURE))
    stack.alertmanager.fire(alertname="RedisHighMemory")
    run = stack.remediator.wait_for("succeeded")
    assert policy(stack) == "allkeys-lru"

    until(lambda: policy(stack) == "noeviction", "it is put back")
    until(lambda: stack.remediator.audit_has("action.undone"), "it is on record")
    after = stack.remediator.get(f"/api/v1/runs/{run['id']}")
    assert [(step["action"], step["outcome"]) for step in after["steps"]] == [("redis.config_set", "ok")] * 2
    assert after["holds_target"] is False


@pytest.mark.promise(3)
def test_a_step_is_undone_after_a_crash(started: Callable[..., Stack]) -> None:
    """After a SIGKILL while the step is in effect, the next process undoes the step once."""
    stack = started(playbook(MEASURE))
    stack.alertmanager.fire(alertname="RedisHighMemory")
    run = stack.remediator.wait_for("succeeded")

    stack.remediator.kill()
    stack.remediator.start()

    until(lambda: policy(stack) == "noeviction", "it is put back")
    until(lambda: stack.remediator.audit_has("action.undone"), "it is on record")
    assert len(stack.remediator.get(f"/api/v1/runs/{run['id']}")["steps"]) == 2


@pytest.mark.promise(10)
def test_a_stop_delays_a_scheduled_undo(started: Callable[..., Stack]) -> None:
    """An undo that comes due during a stop waits; after the release, the step is undone."""
    stack = started(playbook({**MEASURE, "undo": {"after": "10s"}}))
    stack.alertmanager.fire(alertname="RedisHighMemory")
    stack.remediator.wait_for("succeeded")
    ((due, _),) = undos(stack)
    file = stack.remediator.folder / "state/STOP"  # the stop counts at once; a command needs seconds to start
    file.write_text("we look at it ourselves")

    until(lambda: undos(stack)[0][0] > due, "the undo is delayed")
    assert policy(stack) == "allkeys-lru"
    file.unlink()
    (stop,) = stack.remediator.get("/api/v1/stops")
    command(stack, "stop", "release", stop["id"])
    until(lambda: policy(stack) == "noeviction", "it is put back")


def test_a_failed_undo_counts_as_a_try(started: Callable[..., Stack]) -> None:
    """An undo that fails counts as an attempt even if its name has the word *stopped*; after the last attempt it is
    escalated."""
    measure = {**MEASURE, "undo": {"action": "command.run", "with": {"command": "stopped"}, "after": "1s"}}
    harmless = {"argv": ["/no/such/program"], "destructive": False, "interrupts": False}
    stack = started(playbook(measure), commands={"stopped": harmless})
    stack.alertmanager.fire(alertname="RedisHighMemory")
    stack.remediator.wait_for("succeeded")

    until(lambda: undos(stack)[0][1].get("tries", 0) >= 1, "it was tried")


def undos(stack: Stack) -> list[tuple[int, dict[str, Any]]]:
    """Return the time of each scheduled undo in microseconds, and its content."""
    with closing(sqlite3.connect(stack.remediator.folder / "state/remediator.db")) as database:
        found = database.execute("SELECT due_at, content FROM timers WHERE kind = 'undo'").fetchall()
    return [(due, json.loads(content)) for due, content in found]


def command(stack: Stack, *words: str, status: int = 0) -> str:
    """Run a command as an operator; return its output, or its error if another exit status is expected."""
    done = commands.remediator(*words, "--config", str(stack.remediator.config))
    assert done.returncode == status, done.stderr
    return done.stderr if status else done.stdout


def test_an_aborted_run_is_undone(started: Callable[..., Stack]) -> None:
    """A later step fails with ``abort``: the earlier steps are undone first, and their timers are removed."""
    failing = {"id": "fails", "action": "http.request", "with": {"request": "refused"}, "on_failure": "abort"}
    measure = {**MEASURE, "undo": {"after": "1h"}, "on_success": "next"}
    with receiver() as elsewhere:
        elsewhere.answers = [(404, {}, b"{}")]
        stack = started(
            playbook(measure, failing),
            requests={"refused": {"url": elsewhere.url, "destructive": False, "interrupts": False}},
        )
        stack.alertmanager.fire(alertname="RedisHighMemory")
        run = stack.remediator.wait_for("failed")

    assert policy(stack) == "noeviction"
    assert [(step["step"], step["outcome"]) for step in run["steps"]] == [
        ("policy", "ok"),
        ("fails", "failed"),
        ("policy", "ok"),
    ]


def test_a_step_that_cannot_be_planned_is_skipped(started: Callable[..., Stack]) -> None:
    """The step is skipped, and the next step heals the target."""
    closed = {"id": "prune", "action": "files.prune"}
    stack = started(playbook(closed, MEASURE))
    stack.alertmanager.fire(alertname="RedisHighMemory")

    run = stack.remediator.wait_for("succeeded")
    assert [step["step"] for step in run["steps"]] == ["policy"]
    assert any("skipped: service" in event["text"] for event in run["timeline"])


def test_a_run_without_a_plan_is_escalated(started: Callable[..., Stack]) -> None:
    """If no step can be planned, the run is escalated."""
    stack = started(playbook({"id": "prune", "action": "files.prune"}))
    stack.alertmanager.fire(alertname="RedisHighMemory")

    run = stack.remediator.wait_for("escalated")
    assert (run["reason"], run["steps"]) == ("no_plan", [])
