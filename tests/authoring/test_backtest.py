"""``replay`` and ``backtest`` predict runs from a real store and a real Prometheus, and execute nothing."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support import commands
from tests.support.servers import until
from tests.support.servers.prometheus import Prometheus
from tests.support.servers.remediator import PLAYBOOK, Remediator

NOW = datetime.now(UTC).replace(microsecond=0)
DAY = NOW.replace(hour=0, minute=0, second=0) - timedelta(days=3)
TWO_HOURS = 120


def firing(name: str, starts: list[datetime], minutes: int, **labels: str) -> str:
    """Return the ALERTS series of an alert that fired at these times for this duration, with a sample every minute."""
    shown = ",".join(f'{key}="{value}"' for key, value in {"alertname": name, "alertstate": "firing", **labels}.items())
    times = [start + timedelta(minutes=minute) for start in starts for minute in range(minutes)]
    # imported blocks have no staleness markers, so each firing appears five minutes longer
    return "".join(f"ALERTS{{{shown}}} 1 {at.timestamp():.0f}\n" for at in times)


@pytest.fixture
def project(tmp_path: Path) -> Remediator:
    """Write settings, an inventory and one playbook; nothing is started."""
    made = Remediator(tmp_path / "remediator")
    cause = {"id": "down", "when": "true", "cause": "Redis is down."}  # a replay has no facts
    made.playbooks = [PLAYBOOK | {"guards": {"cooldown": "1h"}, "conclude": [cause]}]
    made.inventory["services"] = {
        "redis": {
            "platform": {"kind": "supervisor", "url": "unix:///nowhere.sock", "program": "redis"},
            "redis": {"host": "127.0.0.1", "port": 1},
        }
    }
    made.write()
    return made


def call(project: Remediator, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command with the settings of the project."""
    return commands.remediator(*arguments, "--config", str(project.config))


def told(project: Remediator, *arguments: str) -> dict[str, Any]:
    """Return the JSON output of a command."""
    done = call(project, *arguments, "--format", "json")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def other(project: Remediator, **changes: Any) -> Path:
    """Write a changed playbook to another folder."""
    folder = project.folder / "other"
    folder.mkdir(exist_ok=True)
    (folder / "redis-down.yaml").write_text(yaml.safe_dump(project.playbooks[0] | changes))
    return folder


@pytest.fixture
def remembered(make_prometheus: Callable[..., Prometheus]) -> Prometheus:
    """Start a Prometheus with two firings of RedisDown 20 minutes apart, a later firing, and other alerts."""
    starts = [DAY + timedelta(hours=2), DAY + timedelta(hours=2, minutes=20), DAY + timedelta(days=1)]
    history = "# TYPE ALERTS gauge\n"
    history += firing("RedisDown", starts, 5, service="redis")
    history += firing("Nobody", [DAY + timedelta(hours=5)], 5)
    history += firing("Watchdog", [DAY], TWO_HOURS)
    return make_prometheus(history=history, flags=["--storage.tsdb.retention.time=1y"])


def test_a_backtest_replays_the_history(project: Remediator, remembered: Prometheus) -> None:
    """Three episodes give two restarts and one block by the cooldown. Other alerts match no playbook."""
    found = told(project, "playbook", "backtest", "--prometheus", remembered.url, "--since", "7d")

    assert found["episodes"] == 4
    assert found["unmatched"] == {"Nobody": 1}
    assert found["runs"] == 3
    assert found["blocked_by_guard"] == {"cooldown": 1}
    assert found["actions"] == 2
    assert found["predictions"] == {"would act": 2, "would be blocked": 1}
    assert found["approval_requests"] == 0
    assert found["busiest_hour"]["runs"] == 2
    assert found["by_day"][f"{DAY:%Y-%m-%d}"] == 2


def test_approval_requests_are_counted(project: Remediator, remembered: Prometheus) -> None:
    """In mode approve every run requests approval, and the comparison names the differences."""
    changed = other(project, mode="approve", guards={})
    arguments = ["--prometheus", remembered.url, "--since", "7d", "--playbooks", str(changed)]

    found = told(project, "playbook", "backtest", *arguments, "--against", str(project.folder / "playbooks"))

    assert found["approval_requests"] == 3
    assert found["blocked_by_guard"] == {}
    assert found["difference"]["counts"]["approval_requests"] == [0, 3]
    assert found["difference"]["blocked_by_guard"] == {"cooldown": [1, 0]}
    assert len(found["difference"]["only_after"]) == 3


def test_a_version_in_git_can_be_compared_with(project: Remediator, remembered: Prometheus) -> None:
    """``--against HEAD`` compares with the committed version and not with the current files."""
    for arguments in (
        ["init", "-q"],
        ["add", "."],
        ["-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "1"],
    ):
        subprocess.run(["git", "-C", str(project.folder), *arguments], check=True)
    path = project.folder / "playbooks" / "redis-down.yaml"
    path.write_text(yaml.safe_dump(project.playbooks[0] | {"mode": "observe"}))
    arguments = ["playbook", "backtest", "--prometheus", remembered.url, "--since", "7d", "--against"]

    found = told(project, *arguments, "HEAD")
    assert found["difference"]["counts"]["actions"] == [2, 0]

    refused = call(project, *arguments, "--output=x")
    assert refused.returncode == 2
    assert "no such path or git ref" in refused.stderr


def test_the_result_as_text_and_chart(project: Remediator, remembered: Prometheus) -> None:
    """The text has figures, bars and assumptions. The SVG needs no other file."""
    chart = project.folder / "chart.svg"
    done = call(project, "playbook", "backtest", "--prometheus", remembered.url, "--since", "7d", "--svg", str(chart))

    assert done.returncode == 0, done.stderr
    for wanted in ("runs      3", "approvals 0 requested", "1 cooldown", "█", "assumptions", "1 x Nobody: no playbook"):
        assert wanted in done.stdout, done.stdout
    assert chart.read_text().startswith("<svg xmlns")


@pytest.mark.process
def test_a_replay_reads_the_store_and_does_not_change_it(project: Remediator) -> None:
    """A replay runs a changed playbook on stored notifications and leaves the database unchanged, byte for byte."""
    project.playbooks[0]["mode"] = "observe"
    try:
        project.start()
        assert project.post(project.notification("firing", alertname="RedisDown", service="redis"))[0] == 200
        until(lambda: bool(project.runs()), "a run exists")
    finally:
        project.stop()
    database = project.folder / "state" / "remediator.db"
    before = database.read_bytes()

    found = told(project, "playbook", "replay", "--since", "1h", "--playbooks", str(other(project, mode="auto")))

    assert (found["runs"], found["actions"]) == (1, 1)
    assert database.read_bytes() == before
