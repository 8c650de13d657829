"""``make demo``, run as a user runs it."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from demo.stack import orphaned_processes
from demo.stack.settings import ROOT, Settings
from tests.deploy.test_stack import environment


def demo(variables: dict[str, str]) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "demo"]
    return subprocess.run(argv, env={**os.environ, **variables}, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.long
@pytest.mark.promise(3)
def test_a_service_killed_during_a_remedy_heals_once(local_stack: Settings) -> None:
    """After kill -9 of Redis, and then of the remediator during the remedy, Redis serves and was started once."""
    shown = demo(environment(local_stack) | {"FAULT": "Redis killed", "CRASH_REMEDIATOR": "1"})

    assert shown.returncode == 0, shown.stdout + shown.stderr
    story = [
        "kill -9 of redis-server",
        "RedisDown fires in Alertmanager",
        "starting: supervisord",
        "kill -9 of the remediator in the middle of the run",
        "remediator: succeeded",
        "audit log of this run",
        "action.intended",
        "verification  ",
        "Faults and results",
        "stopped; no process of the stack is left",
    ]
    places = [shown.stdout.find(text) for text in story]
    assert -1 not in places and places == sorted(places), shown.stdout
    assert "healed, checked independently: PING, SET and GET answered, app ready" in shown.stdout
    assert re.search(r"redis was\W+started once", shown.stdout), shown.stdout
    assert orphaned_processes.find(local_stack) == []


def test_an_unknown_fault_is_refused() -> None:
    """An unknown fault starts nothing, and the error lists the valid values."""
    shown = demo({"FAULT": "RedisUp"})

    assert shown.returncode == 2
    assert "unknown fault 'RedisUp'; known faults: " in shown.stdout
    assert "RedisDown" in shown.stdout
