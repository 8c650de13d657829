"""Manage systemd units of this host with systemctl and journalctl, without a shell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from remediator.clients.host import process
from remediator.clients.host.disk import tool
from remediator.errors import BadAnswer, Refused, TargetError, Unreachable
from remediator.extensions.log_lines import of_last_start
from remediator.extensions.platforms.base import OWN_RESTARTS, Platform, ServiceStatus, State
from remediator.playbooks.inventory import Service, SystemdBinding

_PROPERTIES = (
    "LoadState",
    "ActiveState",
    "SubState",
    "Result",
    "MainPID",
    "InvocationID",
    "NRestarts",
    "ExecMainStatus",
    "ActiveEnterTimestamp",
)
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
    """Services that run as systemd units of this host."""

    kind = "systemd"

    async def status(self, service: Service) -> ServiceStatus:
        """Return the state from ``systemctl show``."""
        unit = _unit(service)
        text = await _systemctl("show", "--timestamp=unix", f"--property={','.join(_PROPERTIES)}", "--", unit)
        return described(unit, properties(text))

    async def logs(self, service: Service, lines: int, *, previous: bool = False) -> str:
        """Return the last lines of the journal of the last start, or of the one before."""
        argv = (
            "journalctl",
            "--no-pager",
            "--output=short-iso-precise",
            f"--lines={lines}",
            f"--unit={_unit(service)}",
        )
        ended = await _run(argv, _READ)
        if ended.status != 0:
            raise Refused(f"journalctl: {ended.output.strip()[-300:]}")
        return of_last_start(ended.output, previous=previous)

    def describe_restart(self, service: Service, stop_timeout: float) -> str:
        return f"systemctl restart -- {_unit(service)}"

    async def restart(self, service: Service, pin: Mapping[str, Any], stop_timeout: float) -> None:
        unit = _unit(service)
        now = (await self.status(service)).pin
        if not as_planned(pin, now):
            raise TargetError(
                f"{unit} is {dict(now)}, not {dict(pin)}: it was restarted after planning; nothing was changed"
            )
        await _systemctl("restart", "--", unit, seconds=stop_timeout * 2)


def _unit(service: Service) -> str:
    if not isinstance(service.platform, SystemdBinding):
        raise TargetError(f"{service.name} does not run under systemd")
    return service.platform.unit


async def _systemctl(*arguments: str, seconds: float = _READ) -> str:
    """Run systemctl and return its output.

    Raises:
        Unreachable: systemd does not run on this host.
        TargetError: the unit does not exist.
        Refused: systemctl reports an error.
    """
    ended = await _run(("systemctl", "--no-pager", "--no-ask-password", *arguments), seconds)
    text = ended.output.strip()
    if ended.status == 0:
        return ended.output
    if "not been booted with systemd" in text or "connect to bus" in text:
        raise Unreachable(f"systemd does not run on this host: {text[-300:]}")
    if "not found" in text or "not be found" in text:
        raise TargetError(f"systemctl: {text[-300:]}")
    raise Refused(f"systemctl {arguments[0]} exited with status {ended.status}: {text[-300:]}")


async def _run(argv: Sequence[str], seconds: float) -> process.Ended:
    program = tool(argv[0])
    if program is None:
        raise Unreachable(f"{argv[0]} is not installed on this host")
    return await process.run((program, *argv[1:]), seconds=seconds)


def properties(text: str) -> dict[str, str]:
    """Parse the output of ``systemctl show`` into names and values."""
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


def described(unit: str, found: Mapping[str, str]) -> ServiceStatus:
    """Return the state that the properties of a unit describe.

    Raises:
        TargetError: the unit does not exist.
        BadAnswer: a property is missing or invalid.
    """
    try:
        if found["LoadState"] == "not-found":
            raise TargetError(f"systemd has no unit {unit}; correct the inventory")
        active, sub = found["ActiveState"], found["SubState"]
        state = _SUB.get(sub) or _STATES.get(active, State.UNKNOWN)
        started = _instant(found["ActiveEnterTimestamp"])
        pid, restarts = int(found["MainPID"]), int(found.get("NRestarts") or 0)
        exit_status = int(found.get("ExecMainStatus") or 0)
    except (KeyError, ValueError) as error:
        raise BadAnswer(f"systemctl show returned an invalid property for {unit}: {error}") from None
    running = state is State.RUNNING
    summary = f"{unit} is {active} ({sub}" + (f", pid {pid})" if pid else f", {found.get('Result', '')})")
    return ServiceStatus(
        state=state,
        summary=summary,
        instances=1,
        healthy=int(running),
        pin=_pin(found, restarts),
        started_at=started,
        facts={"result": found.get("Result", ""), "restarts": restarts, "exit_status": exit_status},
        lives={unit: f"{pid} {found.get('InvocationID', '')} {restarts}"},
    )


def _pin(found: Mapping[str, str], restarts: int) -> dict[str, Any]:
    """Return the identity of the instance; for a crash loop, also the number of restarts by systemd."""
    life = {"pid": int(found["MainPID"]), "invocation": found.get("InvocationID", "")}
    return {OWN_RESTARTS: {**life, "restarts": restarts}} if restarts else life


def as_planned(pin: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Return whether only systemd restarted the unit since ``pin``. Any other start resets the number of restarts."""
    loop = now.get(OWN_RESTARTS)
    if loop is None or dict(pin) == dict(now):
        return dict(pin) == dict(now)
    return int(loop["restarts"]) > int(pin.get(OWN_RESTARTS, {}).get("restarts", 0))


def _instant(text: str) -> datetime | None:
    """Parse a time such as ``@1700000000``; None if the unit never started."""
    return datetime.fromtimestamp(int(text.removeprefix("@")), UTC) if text not in ("", "n/a", "0", "@0") else None
