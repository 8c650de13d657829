"""Units of another host by SSH: state, logs, restart, and the outcome of a restart whose connection broke."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from demo.fleet.simulated_hosts import SimulatedHosts
from remediator.core.attempt_calls import in_attempt
from remediator.core.outcome import Outcome
from remediator.core.plan import PlannedCall
from remediator.errors import TargetError, TimedOut
from remediator.extensions.actions.base import EffectStatus
from remediator.extensions.actions.service_logs import ServiceLogs
from remediator.extensions.actions.service_restart import ServiceRestart
from remediator.extensions.clientset import ClientSet
from remediator.extensions.platforms.base import State
from remediator.extensions.platforms.systemd import SystemdPlatform
from remediator.playbooks.inventory import Inventory, Service
from tests.support.action_runner import do, observe, plan
from tests.support.servers import until
from tests.support.servers.ssh_hosts import UNIT, kill

CLIENTS = ClientSet(platforms={"systemd": SystemdPlatform()})
RESTART = ServiceRestart(CLIENTS)


def service(hosts: SimulatedHosts, name: str = "web-1", **changes: Any) -> Service:
    """Return the service of a host from an inventory."""
    entry = {"platform": {"kind": "systemd", "unit": UNIT}, "host": hosts.host(name), **changes}
    shared = {"ssh": hosts.ssh}
    inventory = {"apiVersion": "remediator/v1", "kind": "Inventory", "defaults": shared, "services": {name: entry}}
    return Inventory.model_validate(inventory).service(name)


async def test_the_state_on_another_host_is_the_same(hosts: SimulatedHosts) -> None:
    """The state is the same as on this host; the start time is computed from the age that the host reports."""
    status = await SystemdPlatform().status(service(hosts))
    assert (status.state, status.healthy) == (State.RUNNING, 1)
    assert status.started_at is not None and datetime.now(UTC) - status.started_at < timedelta(minutes=2)

    hosts.fail("web-1", UNIT)
    assert (await SystemdPlatform().status(service(hosts))).state is State.EXITED
    assert (await SystemdPlatform().status(service(hosts, "web-2"))).state is State.RUNNING
    other = {"kind": "systemd", "unit": "other.service"}
    hosts.allow("web-1", units={"other.service": ["status"]})
    with pytest.raises(TargetError, match=r"systemd has no unit other\.service"):
        await SystemdPlatform().status(service(hosts, platform=other))


async def test_a_remote_restart_is_refused_after_another_restart(hosts: SimulatedHosts) -> None:
    """The plan names the host; the call is refused if the unit was restarted after planning."""
    hosts.fail("web-1", UNIT)
    call = await plan(RESTART, service(hosts))
    assert call.text == f"systemctl restart -- {UNIT} on 127.77.0.1:{hosts.port}"
    with in_attempt("attempt-1"):
        assert (await do(RESTART, service(hosts), call=call)).outcome is Outcome.OK
    assert hosts.calls("web-1") == [f"begun {UNIT}", f"done {UNIT}"]

    with in_attempt("attempt-2"), pytest.raises(TargetError, match="nothing was changed"):
        await do(RESTART, service(hosts), call=call)
    assert len(hosts.calls("web-1")) == 2


async def test_log_times_are_corrected_for_the_clock_of_the_host(hosts: SimulatedHosts) -> None:
    """The times of log lines are corrected for the clock of the host, which is an hour ahead in this test."""
    wrapper = hosts.wrapper.read_text()
    hosts.wrapper.write_text(wrapper.replace("clock=time.time()", "clock=time.time() + 3600"))
    ahead = datetime.now(UTC) + timedelta(hours=1)
    lines = [
        f"{(ahead - timedelta(hours=3)).isoformat()} web-1 web[9]: OSError: No space left on device",
        f"{ahead.isoformat()} web-1 web[9]: ConnectionError: connection refused",
        "-- a line without a time --",
    ]
    (hosts.place("web-1") / "journal").write_text("\n".join(lines) + "\n")
    found = await do(ServiceLogs(CLIENTS), service(hosts))

    assert found.output["signs"].keys() == {"disk_full", "connection_error"}
    text = await SystemdPlatform().logs(service(hosts), 10)
    newest = datetime.fromisoformat(text.splitlines()[1].split(" ")[0])
    assert abs(datetime.now(UTC) - newest) < timedelta(minutes=2)
    assert text.splitlines()[2] == lines[2]


@pytest.mark.promise(3)
async def test_the_outcome_of_a_restart_is_observed(hosts: SimulatedHosts, ssh_folder: Path) -> None:
    """Another process can distinguish a restart that never began, still runs, or has finished."""
    target, hold = service(hosts), hosts.place("web-1") / "hold"
    hosts.fail("web-1", UNIT)
    call = await plan(RESTART, target)
    with in_attempt("never-sent"):
        seen = await observe(RESTART, target, call)
        assert (seen.happened, "refuses it from now on" in seen.summary) == (EffectStatus.NO, True)

    hold.touch()
    doing = asyncio.create_task(_do(target, call))
    await asyncio.to_thread(until, lambda: bool(hosts.calls("web-1")), "the restart began")
    kill(str(ssh_folder))
    with pytest.raises(TimedOut):
        await doing
    with in_attempt("attempt-1"):
        seen = await observe(RESTART, target, call)
        assert (seen.happened, seen.summary) == (EffectStatus.UNKNOWN, "the call still runs on the host")
        hold.unlink()
        seen = await observe(RESTART, target, call)
        assert (seen.happened, "was restarted" in seen.summary) == (EffectStatus.YES, True)
    assert hosts.calls("web-1") == [f"begun {UNIT}", f"done {UNIT}"]


@pytest.mark.promise(3)
async def test_a_host_may_have_forgotten_an_old_call(hosts: SimulatedHosts) -> None:
    """The host keeps markers for a month; without a marker, an older call is unknown."""
    target = service(hosts)
    call = await plan(RESTART, target)
    with in_attempt("attempt-1"):
        seen = await observe(RESTART, target, call, since=datetime.now(UTC) - timedelta(days=8))
    assert (seen.happened, "may have forgotten" in seen.summary) == (EffectStatus.UNKNOWN, True)


async def _do(target: Service, call: PlannedCall) -> None:
    with in_attempt("attempt-1"):
        await do(RESTART, target, call=call)
