"""The systemd platform: the output of systemctl, and the error on a host without systemd."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from remediator.core.plan import PlannedCall
from remediator.errors import BadAnswer, TargetError, Unreachable
from remediator.extensions.platforms.base import OWN_RESTARTS, State
from remediator.extensions.platforms.systemd import SystemdPlatform, as_planned, described, properties
from remediator.playbooks.inventory import Service
from tests.support.servers import require

RUNS = """\
LoadState=loaded
ActiveState=active
SubState=running
Result=success
MainPID=812
InvocationID=5e5b6a9f0c3d4bb5a6c0a5d7e8f90123
NRestarts=0
ExecMainStatus=0
ActiveEnterTimestampMonotonic=60000000
"""
UNIT = Service.model_validate({"name": "redis", "platform": {"kind": "systemd", "unit": "redis.service"}})


def changed(**lines: str) -> dict[str, str]:
    return properties(RUNS) | lines


def test_a_running_unit_has_an_identity() -> None:
    """The status identifies this start of the unit."""
    status = described("redis.service", properties(RUNS), 100.0)

    assert (status.state, status.healthy, status.summary) == (
        State.RUNNING,
        1,
        "redis.service is active (running, pid 812)",
    )
    assert status.pin == {"pid": 812, "invocation": "5e5b6a9f0c3d4bb5a6c0a5d7e8f90123"}
    assert status.started_at is not None, "it started 40 s ago, by the clock of its host"
    assert 40 <= (datetime.now(UTC) - status.started_at).total_seconds() < 100


@pytest.mark.parametrize(
    ("lines", "state"),
    [
        ({"ActiveState": "activating", "SubState": "auto-restart", "MainPID": "0"}, State.CRASH_LOOP),
        ({"ActiveState": "failed", "SubState": "failed", "MainPID": "0"}, State.EXITED),
        (
            {"ActiveState": "inactive", "SubState": "dead", "MainPID": "0", "ActiveEnterTimestampMonotonic": "0"},
            State.STOPPED,
        ),
        ({"ActiveState": "activating", "SubState": "start"}, State.STARTING),
        ({"ActiveState": "of a newer systemd", "SubState": "x"}, State.UNKNOWN),
    ],
)
def test_every_state_has_its_name_of_all_platforms(lines: dict[str, str], state: State) -> None:
    """The states have the names of all platforms; an unexpected state is unknown."""
    status = described("redis.service", changed(**lines), 100.0)

    assert (status.state, status.healthy) == (state, 0)


def test_a_missing_unit_is_an_error() -> None:
    """``systemctl show`` succeeds for a missing unit, so the output must be checked."""
    with pytest.raises(TargetError, match=r"systemd has no unit redis\.service"):
        described("redis.service", changed(LoadState="not-found"), 100.0)


@pytest.mark.parametrize("text", ["", "nonsense", "LoadState=loaded\nActiveState=active\nSubState=running\nMainPID=x"])
def test_an_incomplete_output_is_an_error(text: str) -> None:
    """An incomplete output of systemctl is an error."""
    with pytest.raises(BadAnswer):
        described("redis.service", properties(text), 100.0)


async def test_on_a_host_without_systemd_it_is_unreachable() -> None:
    """Nothing was sent, so the error is :class:`Unreachable`."""
    require("systemctl")
    if Path("/run/systemd/system").exists():
        pytest.skip("systemd runs this host; its units are not ours to try things on")

    with pytest.raises(Unreachable, match="systemd does not run on this host"):
        await SystemdPlatform().status(UNIT)


def pin_of(**lines: str) -> Mapping[str, Any]:
    """Return the pin of a unit with these properties."""
    return described("redis.service", changed(**lines), 100.0).pin


@pytest.mark.promise(8)
def test_another_restart_by_systemd_does_not_change_the_plan() -> None:
    """Further crashes during an approval do not change the plan; a start by another client does."""
    life = {"MainPID": "900", "InvocationID": "a" * 32}
    planned = pin_of(**life, NRestarts="4")
    later = pin_of(MainPID="950", InvocationID="b" * 32, NRestarts="6")
    assert as_planned(planned, planned) and as_planned(planned, later)
    assert as_planned(pin_of(), later), "it began to crash since"
    assert not as_planned(planned, pin_of(MainPID="960", InvocationID="c" * 32, NRestarts="0"))
    assert not as_planned(planned, pin_of(MainPID="970", InvocationID="d" * 32, NRestarts="2"))
    assert not as_planned(pin_of(), pin_of(**life))
    call = PlannedCall("restart", pin=planned, volatile_fields=(OWN_RESTARTS,))
    assert call.comparable() == PlannedCall("restart", pin=later, volatile_fields=(OWN_RESTARTS,)).comparable()
