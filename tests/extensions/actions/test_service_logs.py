"""``service.logs`` and ``service.status``: the lines that are read, and the causes that are found in them."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from xmlrpc.client import ServerProxy

import pytest

from remediator.core.clock import SystemClock
from remediator.core.outcome import Outcome
from remediator.errors import TargetError, Unreachable
from remediator.extensions.actions.base import INCIDENT_START
from remediator.extensions.actions.service_logs import ServiceLogs, told_by
from remediator.extensions.actions.service_status import ServiceStatusAction
from remediator.extensions.clientset import ClientSet
from remediator.extensions.platforms.supervisor import SupervisorPlatform
from tests.support.action_runner import do, service
from tests.support.servers import until
from tests.support.servers.supervisord import Supervisord


@pytest.mark.parametrize(
    ("line", "sign", "told"),
    [
        ("ModuleNotFoundError: No module named 'prices'", "missing_module", "No module named 'prices'"),
        ("PRICES_URL: required by release 1.1, not set", "missing_variable", "PRICES_URL"),
        (
            "redis.exceptions.ConnectionError: Error 111",
            "connection_error",
            "redis.exceptions.ConnectionError: Error 111",
        ),
        (
            "connect() failed (111: Connection refused)",
            "connection_error",
            "connect() failed (111: Connection refused)",
        ),
        ("Write error: No space left on device", "disk_full", "Write error: No space left on device"),
        (
            "Bad file format reading the append only file",
            "corrupt_data",
            "Bad file format reading the append only file",
        ),
        ("Out of memory: Killed process 12 (python)", "out_of_memory", "Out of memory: Killed process 12 (python)"),
        ("ValueError: no", "exception", "ValueError: no"),
        ("# Short read or OOM loading DB. Unrecoverable error", "corrupt_data", None),
        ("[offset 153] Unexpected EOF reading RDB file", "corrupt_data", None),
        ("# Terminating server after rdb file reading failure.", "corrupt_data", None),
        ("# Can't save in background: fork: Resource temporarily unavailable", "cannot_fork", None),
        ("WRONGPASS invalid username-password pair or user is disabled.", "wrong_password", None),
        ("OSError: [Errno 24] Too many open files: '/x'", "too_many_files", None),
    ],
)
def test_patterns_of_log_lines(line: str, sign: str, told: str | None) -> None:
    """The most specific sign comes first, whatever other lines the log has."""
    found = told_by(["INFO all is well", line, "INFO going on"])

    assert next(iter(found.items())) == (sign, told or line)


def test_the_sign_of_a_rejected_configuration_has_line_and_reason() -> None:
    """A later successful start in the same log removes the sign."""
    log = ["*** FATAL CONFIG FILE ERROR (Redis 7.0.15) ***", "Reading the configuration file, at line 4"]
    log += [">>> 'maxmemory-polcy allkeys-lru'", "Bad directive or wrong number of arguments"]
    told = "at line 4: 'maxmemory-polcy allkeys-lru': Bad directive or wrong number of arguments"
    assert told_by(log) == {"bad_configuration": told}
    assert told_by([*log, "* Ready to accept connections"]) == {}


@pytest.mark.parametrize(
    "failure",
    [
        "Background saving error",
        "Can't save in background: fork: Cannot allocate memory",
        "Error saving DB on disk, can't exit",
    ],
)
@pytest.mark.parametrize(
    "end", ["Background saving terminated with success", "DB saved on disk", "* Ready to accept connections tcp"]
)
def test_a_failed_save_counts_until_the_next_save_or_start(failure: str, end: str) -> None:
    """A successful save or a new process ends the sign; a later failure sets it again."""
    assert told_by([end, f"12:M {failure}", "INFO going on"])["cannot_save"] == f"12:M {failure}"
    assert "cannot_save" not in told_by([f"12:M {failure}", end])
    assert told_by([failure, end, failure])["cannot_save"] == failure


@pytest.mark.parametrize(
    "begun",
    [
        "7:M 29 Nov 2026 00:18:26.700 # Server initialized",  # Redis 6
        "7:M 29 Nov 2026 00:18:26.700 * Server initialized",  # Redis 7, Valkey 8
        "7:M 29 Nov 2026 00:18:26.700 * Reading RDB base file on AOF loading...",
        "7:S 29 Nov 2026 00:18:26.700 * MASTER <-> REPLICA sync: Loading DB in memory",
    ],
)
def test_a_load_counts_until_it_has_ended(begun: str) -> None:
    """Redis counts as loading until it is ready; lines of other programs do not count."""
    end = "7:M 29 Nov 2026 00:18:27.700 * Ready to accept connections tcp"
    assert told_by([end, begun]) == {"loading": begun}
    assert told_by([begun, end]) == {}
    assert told_by(["INFO Server initialized"]) == {}


def test_a_log_without_errors_has_no_signs() -> None:
    """Lines without an error give no sign."""
    assert told_by(["INFO worker ready", "GET /items 200"]) == {}


class At(SystemClock):
    """A clock that always shows the same time."""

    def __init__(self, now: datetime) -> None:
        self._now = now

    def now(self) -> datetime:
        return self._now


@pytest.fixture
async def world() -> AsyncIterator[ClientSet]:
    """Return clients with supervisord as the only platform."""
    platform = SupervisorPlatform()
    yield ClientSet(platforms={"supervisor": platform})
    await platform.aclose()


async def test_a_crashing_program_is_read(world: ClientSet, supervisord: Supervisord) -> None:
    """``service.status`` reports the state, and ``service.logs`` the last lines and their sign."""
    command = f"{sys.executable} -c 'import no_such_thing'"
    supervisord.program("app", command, "startretries=0", "startsecs=30", "autostart=true")
    supervisord.start()
    app = service("app", platform={"kind": "supervisor", "url": supervisord.url, "program": "app"})
    platform = world.platforms["supervisor"]
    await platform.status(app)
    until(lambda: "FATAL" in supervisord.log, "supervisord gave up")

    status, logs = await do(ServiceStatusAction(world), app), await do(ServiceLogs(world), app)
    assert (status.outcome, status.output["state"]) == (Outcome.FAILED, "crash_loop")
    assert logs.summary == "missing module: No module named 'no_such_thing'"
    assert logs.output["traceback"] is True


async def test_signs_of_an_earlier_incident_do_not_count(supervisord: Supervisord, tmp_path: Path) -> None:
    """Only lines after the last start, or from shortly before the incident, count; without a sign, the result is ok."""
    lines = [
        "11:C 28 Nov 2026 16:00:00.000 # oO0OoO0OoO0Oo Redis is starting oO0OoO0OoO0Oo",
        "11:M 28 Nov 2026 16:10:00.000 # No space left on device",
        "12:C 28 Nov 2026 16:30:00.000 # oO0OoO0OoO0Oo Redis is starting oO0OoO0OoO0Oo",
        "12:M 28 Nov 2026 16:40:00.000 # Bad file format reading the append only file",
    ]
    (tmp_path / "old.log").write_text("\n".join(lines) + "\n")
    supervisord.program("redis", f"sh -c 'cat {tmp_path}/old.log; sleep 60'")
    supervisord.start()
    with ServerProxy(f"http://operator:opensesame@127.0.0.1:{supervisord.port}/RPC2") as proxy:
        proxy.supervisor.startProcess("redis")
    redis = service("redis", platform={"kind": "supervisor", "url": supervisord.url, "program": "redis"})
    platform = SupervisorPlatform()
    clients = ClientSet(platforms={"supervisor": platform}, clock=At(datetime(2026, 11, 28, 17, tzinfo=UTC)))
    for begun, outcome, signs in (
        (datetime(2026, 11, 28, 16, 44, tzinfo=UTC), Outcome.FAILED, ["corrupt_data"]),
        (datetime(2026, 11, 28, 16, 46, tzinfo=UTC), Outcome.OK, []),
    ):
        until(lambda: any("Bad file" in log.read_text() for log in supervisord.folder.glob("redis-stdout*")), "written")
        token = INCIDENT_START.set(begun)
        logs = await do(ServiceLogs(clients), redis)
        INCIDENT_START.reset(token)
        assert (logs.outcome, list(logs.output["signs"])) == (outcome, signs)
    await platform.aclose()


async def test_a_program_that_is_not_there(world: ClientSet, supervisord: Supervisord) -> None:
    """A missing program and an unreachable supervisord give different errors."""
    supervisord.start()
    stranger = service("app", platform={"kind": "supervisor", "url": supervisord.url, "program": "app"})
    with pytest.raises(TargetError, match="has no program"):
        await do(ServiceStatusAction(world), stranger)
    supervisord.stop()
    with pytest.raises(Unreachable):
        await do(ServiceLogs(world), stranger)
