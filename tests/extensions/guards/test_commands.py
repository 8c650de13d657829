"""Commands of the operator while a service runs on the same SQLite file."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from remediator.cli.audit_verify import NOT_ANCHORED
from tests.support import commands
from tests.support.servers import until
from tests.support.servers.remediator import Remediator, Stack


def remediator(server: Remediator, *argv: str) -> subprocess.CompletedProcess[str]:
    return commands.remediator(*argv, "--config", str(server.config))


def _service(folder: Path) -> Iterator[Remediator]:
    """Start a service with one playbook and no alert."""
    server = Remediator(folder / "remediator")
    server.inventory["services"] = {"redis": {"platform": {"kind": "supervisor", "url": "unix:///x", "program": "r"}}}
    server.start()
    yield server
    server.stop()


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Remediator]:
    """Return a service that the test may change."""
    yield from _service(tmp_path)


@pytest.fixture(scope="module")
def unchanged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Remediator]:
    """Return a service that all tests of refused commands share; each test verifies that no stop is active."""
    yield from _service(tmp_path_factory.mktemp("unchanged"))


@pytest.mark.promise(10)
def test_a_stop_blocks_a_real_remediation_until_its_release(stack: Stack) -> None:
    """Redis fails during a stop: no action is done, and the run names the stop. After the release, the run restores
    Redis."""
    paused = remediator(stack.remediator, "stop", "create", "--reason", "database move", "--actor", "user:ann")
    assert paused.returncode == 0, paused.stderr
    stop_id = paused.stdout.split(":")[0]
    stack.kill_redis()
    stack.alertmanager.fire(alertname="RedisDown", instance="redis:6379")

    run = stack.remediator.wait_for("blocked")
    assert (run["blocked_by"], run["detail"]["guard_reason"]) == ("kill_switch", "stopped")
    assert re.match(r"everything stopped by user:\S+ for user:ann at ", run["detail"]["text"])
    assert run["steps"] == []

    assert remediator(stack.remediator, "stop", "release", stop_id).returncode == 0
    stack.remediator.wait_for("succeeded")
    begun = next(
        item
        for item in stack.remediator.get(f"/api/v1/runs/{run['id']}")["timeline"]
        if item["kind"] == "action.intended"
    )
    assert begun is not None
    verified = remediator(
        stack.remediator, "audit", "verify", "--db", str(stack.remediator.folder / "state/remediator.db")
    )
    assert verified.returncode == NOT_ANCHORED, verified.stdout + verified.stderr  # no checkpoints outside the store


def test_a_stop_with_an_unknown_name_is_refused(unchanged: Remediator) -> None:
    """The error suggests the nearest name; nothing is written."""
    for option, slip, meant in (("--playbook", "redis-dwon", "redis-down"), ("--service", "redes", "redis")):
        refused = remediator(unchanged, "stop", "create", option, slip, "--reason", "disk swap")
        assert (refused.returncode, refused.stdout) == (2, "")
        assert f"there is no {option[2:]} {slip!r}; did you mean {meant!r}?" in refused.stderr
    assert remediator(unchanged, "status").returncode == 0


def test_a_stop_is_possible_with_a_broken_inventory(service: Remediator) -> None:
    """The command warns that the name is not checked, and creates the stop."""
    (service.folder / "inventory.yaml").write_text("services: {redis: [")
    paused = remediator(service, "stop", "create", "--service", "redis", "--reason", "disk swap")
    assert paused.returncode == 0, paused.stderr
    assert "is not checked" in paused.stderr and "Traceback" not in paused.stderr
    assert remediator(service, "status").returncode == 1


def test_status_shows_active_stops(service: Remediator) -> None:
    """Status lists the stops, and its exit status is 1 while one is active."""
    assert remediator(service, "status").returncode == 0
    remediator(
        service,
        "stop",
        "create",
        "--service",
        "redis",
        "--reason",
        "disk swap",
        "--duration",
        "2h",
        "--actor",
        "user:ann",
    )

    shown = remediator(service, "status", "--format", "json")

    stop = json.loads(shown.stdout)["stops"][0]
    assert shown.returncode == 1
    assert (stop["scope"], stop["name"], stop["reason"]) == ("service", "redis", "disk swap")
    assert re.fullmatch(r"user:\S+ for user:ann", stop["created_by"]), "who typed it, and for whom"
    assert stop["expires_at"] is not None
    listed = remediator(service, "stop", "list")
    assert listed.stdout.startswith(f"{stop['id']}  service redis stopped by {stop['created_by']} since ")


def test_a_stop_file_becomes_a_stop_and_is_removed_before_the_release(service: Remediator) -> None:
    """The file becomes a stop within a second; a release is refused while the file exists."""
    state = service.folder / "state"
    (state / "STOP").write_text("smoke in the server room")

    def stopped() -> bool:
        return "smoke" in json.loads(remediator(service, "status", "--format", "json").stdout)["stops"][0]["reason"]

    def listed() -> bool:
        return bool(json.loads(remediator(service, "status", "--format", "json").stdout)["stops"])

    until(listed, "the file's stop is in the store")
    assert stopped()
    stop_id = json.loads(remediator(service, "status", "--format", "json").stdout)["stops"][0]["id"]

    refused = remediator(service, "stop", "release", stop_id)
    (state / "STOP").unlink()
    released = remediator(service, "stop", "release", stop_id)

    assert (refused.returncode, released.returncode) == (2, 0)
    assert "remove it first" in refused.stderr


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("stop", "create", "--reason", " "), "a reason"),
        (("stop", "create", "--playbook", "a", "--service", "b", "--reason", "x"), "not both"),
        (("stop", "create", "--reason", "x", "--duration", "soon"), "duration"),
        (("stop", "release", "stop-none"), "stop 'stop-none' is not active"),
        (
            ("playbook", "set-mode", "none", "--mode", "auto", "--reason", "x"),
            "no playbook 'none'; known: redis-down",
        ),
    ],
)
def test_wrong_usage_has_status_2_and_a_message(unchanged: Remediator, argv: tuple[str, ...], message: str) -> None:
    """The message names the problem, and nothing is changed."""
    done = remediator(unchanged, *argv)

    assert (done.returncode, message in done.stderr) == (2, True), done.stderr
    assert remediator(unchanged, "status").returncode == 0


def test_a_changed_mode_is_recorded_and_shown(service: Remediator) -> None:
    """Status shows the new mode, who set it, and the reason."""
    done = remediator(
        *(service, "playbook", "set-mode", "redis-down", "--mode", "approve"),
        *("--reason", "two bad nights", "--actor", "user:ann"),
    )

    assert done.stdout == "redis-down: auto -> approve (mode in its file: auto)\n"
    place = json.loads(remediator(service, "status", "--format", "json").stdout)["autonomy"]["redis-down"]
    assert (place["mode"], place["reason"]) == ("approve", "two bad nights")
    assert re.fullmatch(r"user:\S+ for user:ann", place["actor"]), "who typed it, and for whom"
