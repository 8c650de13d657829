"""The main job on real servers: an alert comes, Redis is restarted, proof is found, all of it is on record."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.servers.remediator import ROOT, Stack


@pytest.mark.promise(7)
def test_a_dead_redis_is_restarted_and_proved_well(stack: Stack) -> None:
    """RedisDown through a real Alertmanager ends in one restart and a run that succeeded on evidence."""
    pid = stack.kill_redis()

    stack.alertmanager.fire(alertname="RedisDown", instance="redis:6379")

    run = stack.remediator.wait_for("succeeded")
    assert stack.redis()["statename"] == "RUNNING"
    assert stack.redis()["pid"] != pid
    assert [(step["action"], step["outcome"]) for step in run["steps"]] == [("service.restart", "ok")]
    assert "Redis: a value was written, read back and deleted" in run["detail"]["proof"]


def test_the_story_of_a_heal_is_told_in_order(stack: Stack) -> None:
    """``remediator runs show`` tells what happened as the straight line."""
    stack.kill_redis()
    stack.alertmanager.fire(alertname="RedisDown", instance="redis:6379")
    run = stack.remediator.wait_for("succeeded")

    shown = subprocess.run(
        [sys.executable, "-m", "remediator", "runs", "show", run["id"], "--config", str(stack.remediator.config)],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    ).stdout

    wanted = ["matched", "diagnose ping", "planned:", "guards of the plan", "about to:", "service.restart ok", "healed"]
    places = [shown.index(text) for text in wanted]
    assert places == sorted(places), shown
