"""Manage systemd units with systemctl and journalctl, without a shell: on this host, or on another host by SSH."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from remediator.clients.host import process
from remediator.clients.host.disk import tool
from remediator.clients.host.unit_commands import log_arguments, restart_arguments, show_arguments
from remediator.clients.ssh.client import PastCall, RemoteHost
from remediator.errors import BadAnswer, Refused, TargetError, Unreachable
from remediator.extensions.log_lines import of_last_start, shifted
from remediator.extensions.platforms.base import OWN_RESTARTS, Platform, ServiceStatus, State
from remediator.playbooks.inventory import Service
from remediator.playbooks.platform_bindings import SystemdBinding

_READ = 10.0
_SUB = {"auto-restart": State.CRASH_LOOP, "auto-restart-queued": State.CRASH_LOOP}
_STATES = {
    "active": State.RUNNING,
    "reloading": State.RUNNING,
    "activating": State.STARTING,
    "deactivating": State.STOPPED,
    "inactive": State.STOPPED,
    "failed": State.EXITED,
}


class SystemdPlatform(Platform):
    """Services that run as systemd units of this host, or of the host of the service."""

    kind = "systemd"

    async def status(self, service: Service) -> ServiceStatus:
        """Return the state from ``systemctl show``."""
        unit, here = _unit(service), time.monotonic()
        if service.host is None:
            text = _checked(service, "show", await _run("systemctl", show_arguments(unit), _READ))
        else:
            answer = await RemoteHost(service.host).read("unit-status", unit=unit, seconds=_READ)
            text, here = _checked(service, "show", _ended(answer)), _number(answer, "monotonic")
        return described(unit, properties(text), here)

    async def logs(self, service: Service, lines: int, *, previous: bool = False) -> str:
        """Return the last lines of the journal of the last start, or of the previous start.

        Their times are converted to the clock of this host, because the clock of another host may differ.
        """
        unit, ahead = _unit(service), timedelta(0)
        if service.host is None:
            ended = await _run("journalctl", log_arguments(unit, lines), _READ)
        else:
            answer = await RemoteHost(service.host).read("unit-logs", unit=unit, lines=lines, seconds=_READ)
            ended, ahead = _ended(answer), timedelta(seconds=_number(answer, "clock") - time.time())
        if ended.status != 0:
            raise Refused(f"journalctl: {ended.output.strip()[-300:]}")
        return of_last_start(shifted(ended.output, ahead), previous=previous)

    def describe_restart(self, service: Service, stop_timeout: float) -> str:
        where = "" if service.host is None else f" on {service.host}"
        return f"systemctl restart -- {_unit(service)}{where}"

    async def restart(self, service: Service, pin: Mapping[str, Any], stop_timeout: float) -> None:
        unit = _unit(service)
        now = (await self.status(service)).pin
        if not as_planned(pin, now):
            raise TargetError(
                f"{unit} is {dict(now)}, not {dict(pin)}: it was restarted after planning; nothing was changed"
            )
        seconds = stop_timeout * 2
        if service.host is None:
            _checked(service, "restart", await _run("systemctl", restart_arguments(unit), seconds))
        else:
            answer = await RemoteHost(service.host).change("unit-restart", unit=unit, seconds=seconds)
            _checked(service, "restart", _ended(answer))

    async def settle(self, service: Service) -> tuple[PastCall, ...] | None:
        """Return the calls of the attempt that another host began; None for a unit of this host."""
        return None if service.host is None else await RemoteHost(service.host).settle()


def _unit(service: Service) -> str:
    if not isinstance(service.platform, SystemdBinding):
        raise TargetError(f"{service.name} does not run under systemd")
    return service.platform.unit


def _checked(service: Service, verb: str, ended: process.Ended) -> str:
    """Return the output of systemctl.

    Raises:
        Unreachable: systemd does not run on the host.
        TargetError: the unit does not exist.
        Refused: systemctl reports an error.
    """
    text = ended.output.strip()
    if ended.status == 0:
        return ended.output
    if "not been booted with systemd" in text or "connect to bus" in text:
        raise Unreachable(f"systemd does not run on {service.host or 'this host'}: {text[-300:]}")
    if "not found" in text or "not be found" in text:
        raise TargetError(f"systemctl: {text[-300:]}")
    raise Refused(f"systemctl {verb} exited with status {ended.status}: {text[-300:]}")


async def _run(name: str, arguments: Sequence[str], seconds: float) -> process.Ended:
    program = tool(name)
    if program is None:
        raise Unreachable(f"{name} is not installed on this host")
    return await process.run((program, *arguments), seconds=seconds)


def _ended(answer: Any) -> process.Ended:
    """Return the result of a program that another host ran.

    Raises:
        BadAnswer: the answer has another form.
    """
    try:
        return process.Ended(int(answer["status"]), str(answer["output"]))
    except (KeyError, TypeError, ValueError):
        raise BadAnswer("the answer of the host has no status and output of the program") from None


def _number(answer: Any, name: str) -> float:
    try:
        return float(answer[name])
    except (KeyError, TypeError, ValueError):
        raise BadAnswer(f"the answer of the host has no {name}") from None


def properties(text: str) -> dict[str, str]:
    """Parse the output of ``systemctl show`` into names and values."""
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


def described(unit: str, found: Mapping[str, str], now: float) -> ServiceStatus:
    """Return the state that the properties of a unit describe.

    Args:
        unit: its name.
        found: its properties.
        now: the monotonic clock of its host, in seconds, to which its start refers.

    Raises:
        TargetError: the unit does not exist.
        BadAnswer: a property is missing or invalid.
    """
    try:
        if found["LoadState"] == "not-found":
            raise TargetError(f"systemd has no unit {unit}; correct the inventory")
        active, sub = found["ActiveState"], found["SubState"]
        state = _SUB.get(sub) or _STATES.get(active, State.UNKNOWN)
        micros = int(found["ActiveEnterTimestampMonotonic"] or 0)  # 0: the unit never started
        started = datetime.now(UTC) - timedelta(seconds=max(now - micros / 1e6, 0.0)) if micros else None
        pid, restarts = int(found["MainPID"]), int(found.get("NRestarts") or 0)
        exit_status = int(found.get("ExecMainStatus") or 0)
    except (KeyError, ValueError) as error:
        raise BadAnswer(f"systemctl show returned an invalid property for {unit}: {error}") from None
    running = state is State.RUNNING
    life = {"pid": pid, "invocation": found.get("InvocationID", "")}
    summary = f"{unit} is {active} ({sub}" + (f", pid {pid})" if pid else f", {found.get('Result', '')})")
    return ServiceStatus(
        state=state,
        summary=summary,
        instances=1,
        healthy=int(running),
        pin={OWN_RESTARTS: {**life, "restarts": restarts}} if restarts else life,
        started_at=started,
        facts={"result": found.get("Result", ""), "restarts": restarts, "exit_status": exit_status},
        lives={unit: f"{pid} {found.get('InvocationID', '')} {restarts}"},
    )


def as_planned(pin: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Return whether only systemd restarted the unit since ``pin``. Any other start resets the number of restarts."""
    loop = now.get(OWN_RESTARTS)
    if loop is None or dict(pin) == dict(now):
        return dict(pin) == dict(now)
    return int(loop["restarts"]) > int(pin.get(OWN_RESTARTS, {}).get("restarts", 0))
