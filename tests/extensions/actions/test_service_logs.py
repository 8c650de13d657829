"""service.logs and service.status: what is read, and what lines tell of a cause."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator

import pytest

from remediator.core.outcome import Outcome
from remediator.errors import TargetError, Unreachable
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
    ],
)
def test_patterns_of_log_lines(line: str, sign: str, told: str) -> None:
    """The clearest sign comes first, whatever else is in the log."""
    found = told_by(["INFO all is well", line, "INFO going on"])

    assert next(iter(found.items())) == (sign, told)


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
    """A save that worked, or a new process, ends the sign; a failure after that begins it again."""
    assert told_by([end, f"12:M {failure}", "INFO going on"])["cannot_save"] == f"12:M {failure}"
    assert "cannot_save" not in told_by([f"12:M {failure}", end])
    assert told_by([failure, end, failure])["cannot_save"] == failure


def test_a_log_without_errors_has_no_signs() -> None:
    """No sign is made up."""
    assert told_by(["INFO worker ready", "GET /items 200"]) == {}


@pytest.fixture
async def world() -> AsyncIterator[ClientSet]:
    """With supervisord as its one platform."""
    platform = SupervisorPlatform()
    yield ClientSet(platforms={"supervisor": platform})
    await platform.aclose()


async def test_a_crashing_program_is_read(world: ClientSet, supervisord: Supervisord) -> None:
    """Its state by service.status, its last words and their meaning by service.logs."""
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


async def test_a_program_that_is_not_there(world: ClientSet, supervisord: Supervisord) -> None:
    """Missing and unreachable are told apart."""
    supervisord.start()
    stranger = service("app", platform={"kind": "supervisor", "url": supervisord.url, "program": "app"})
    with pytest.raises(TargetError, match="has no program"):
        await do(ServiceStatusAction(world), stranger)
    supervisord.stop()
    with pytest.raises(Unreachable):
        await do(ServiceLogs(world), stranger)
