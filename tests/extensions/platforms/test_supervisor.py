"""Programs of supervisord, with crash loops found in the log of supervisord."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path

import pytest

from remediator.core.outcome import Outcome
from remediator.extensions.actions.service_status import ServiceStatusAction
from remediator.extensions.clientset import ClientSet
from remediator.extensions.platforms.supervisor import SupervisorPlatform, crashes_in
from tests.support.action_runner import do, service
from tests.support.servers import until
from tests.support.servers.supervisord import Supervisord

LOOP = """\
2026-11-29 01:00:00,100 INFO spawned: 'app' with pid 10
2026-11-29 01:00:30,100 WARN exited: app (exit status 1; not expected)
2026-11-29 01:00:31,100 INFO spawned: 'app' with pid 11
2026-11-29 01:01:00,100 WARN exited: app (terminated by SIGKILL; not expected)
2026-11-29 01:01:01,100 INFO spawned: 'app' with pid 12
"""
TWO_CRASHES = """
import pathlib, sys, time
count = pathlib.Path(sys.argv[1])
crashes = int(count.read_text()) if count.exists() else 0
count.write_text(str(crashes + 1))
if crashes < 2:
    sys.exit(1)
time.sleep(1000)
"""


@pytest.mark.parametrize(
    ("log", "name", "crashes"),
    [
        (LOOP, "app", 2),
        (LOOP, "redis", 0),
        (LOOP.replace("not expected", "expected"), "app", 0),
        (LOOP.replace("01:00:30", "00:58:00"), "app", 1),
        (LOOP.replace("WARN exited: app (exit status 1; not expected)", "INFO stopped: app (exit status 0)"), "app", 1),
        (LOOP + "2026-11-29 01:02:00,100 INFO stopped: app (terminated by SIGTERM)\n", "app", 0),
        ("", "app", 0),
    ],
)
def test_unexpected_ends_before_the_last_start_are_counted(log: str, name: str, crashes: int) -> None:
    """Ends of another program, expected ends, old ends, and ends before a stop do not count."""
    assert crashes_in(log, name) == crashes


def test_crashes_of_another_release_are_not_counted() -> None:
    """After a rollback, crashes of the bad release do not count for the restored one."""
    assert crashes_in(LOOP, "app", datetime.fromisoformat("2026-11-29 01:00:45")) == 1
    assert crashes_in(LOOP, "app", datetime.fromisoformat("2026-11-29 01:01:00.5")) == 0


@pytest.fixture
async def world() -> AsyncIterator[ClientSet]:
    """Return clients with supervisord as the only platform."""
    platform = SupervisorPlatform()
    yield ClientSet(platforms={"supervisor": platform})
    await platform.aclose()


async def test_a_program_between_two_crashes_is_in_a_crash_loop(
    world: ClientSet, supervisord: Supervisord, tmp_path: Path
) -> None:
    """The program runs during the check, and the log of supervisord has its earlier crashes, so no long watch is
    needed."""
    (tmp_path / "run.py").write_text(TWO_CRASHES)
    command = f"{sys.executable} {tmp_path}/run.py {tmp_path}/count"
    supervisord.program("app", command, "autostart=true", "autorestart=true")
    supervisord.start()
    app = service("app", platform={"kind": "supervisor", "url": supervisord.url, "program": "app"})
    until(lambda: supervisord.log.count("spawned: 'app'") == 3, "it was started for the third time")

    status = await do(ServiceStatusAction(world), app)

    assert (status.outcome, status.output["state"]) == (Outcome.FAILED, "crash_loop"), status.summary
    assert "it crashed 2 times in the two minutes before its last start" in status.summary
