"""supervisord: programs on this or another host, by XML-RPC."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from remediator.clients.endpoint import BasicAuth, Endpoint
from remediator.clients.supervisor import Fault, Process, ProcessPin, ProcessState, Supervisor, SupervisorRefused
from remediator.clock import rfc3339
from remediator.errors import TargetError
from remediator.inventory import Service, SupervisorBinding
from remediator.platforms import Platform, ServiceStatus, State

_STATES = {
    ProcessState.RUNNING: State.RUNNING,
    ProcessState.STARTING: State.STARTING,
    ProcessState.STOPPED: State.STOPPED,
    ProcessState.STOPPING: State.STOPPED,
    ProcessState.EXITED: State.EXITED,
    ProcessState.BACKOFF: State.CRASH_LOOP,
    ProcessState.FATAL: State.CRASH_LOOP,
    ProcessState.UNKNOWN: State.UNKNOWN,
}


class SupervisorPlatform(Platform):
    """Services that are supervisord programs."""

    kind = "supervisor"

    def __init__(self) -> None:
        self._clients: dict[tuple[str, str | None], Supervisor] = {}

    async def aclose(self) -> None:
        """Close all connections."""
        for client in self._clients.values():
            await client.aclose()

    async def status(self, service: Service) -> ServiceStatus:
        binding, client = self._of(service)
        process = await _find(client, binding.program)
        return _status(process)

    async def logs(self, service: Service, lines: int, *, previous: bool = False) -> str:
        """Both streams' ends; supervisord keeps one log over restarts, so ``previous`` changes nothing."""
        binding, client = self._of(service)
        texts = [await client.stdout(binding.program)]
        try:
            texts.append(await client.stderr(binding.program))
        except SupervisorRefused as error:
            if error.fault is not Fault.NO_FILE:
                raise
        return "\n".join("\n".join(text.splitlines()[-lines:]) for text in texts if text)

    def describe_restart(self, service: Service, stop_timeout: float) -> str:
        binding = _binding(service)
        return f"supervisord at {binding.url}: stopProcess({binding.program!r}) if it runs, then startProcess"

    async def restart(self, service: Service, pin: Mapping[str, Any], stop_timeout: float) -> None:
        binding, client = self._of(service)
        planned = _planned(pin)
        process = await _find(client, binding.program)
        if process.pin != planned:
            raise TargetError(
                f"{service.name} is pid {process.pid} now, not pid {planned.pid} as planned: somebody was faster"
            )
        if process.state in (ProcessState.RUNNING, ProcessState.STARTING):
            await client.stop(binding.program, expected=planned, seconds=stop_timeout)
        await client.start(binding.program, seconds=stop_timeout)

    def _of(self, service: Service) -> tuple[SupervisorBinding, Supervisor]:
        binding = _binding(service)
        key = (binding.url, binding.username)
        if key not in self._clients:
            self._clients[key] = Supervisor(_endpoint(binding))
        return binding, self._clients[key]


def _binding(service: Service) -> SupervisorBinding:
    if not isinstance(service.platform, SupervisorBinding):
        raise TargetError(f"{service.name} does not run under supervisord")
    return service.platform


def _endpoint(binding: SupervisorBinding) -> Endpoint:
    basic = None
    if binding.username is not None and binding.password_file is not None:
        basic = BasicAuth(username=binding.username, password_file=binding.password_file)
    return Endpoint(url=binding.url, basic=basic)


async def _find(client: Supervisor, program: str) -> Process:
    try:
        return await client.process(program)
    except SupervisorRefused as error:
        if error.fault is Fault.BAD_NAME:
            raise TargetError(f"supervisord has no program {program!r}; correct the inventory") from None
        raise


def _planned(pin: Mapping[str, Any]) -> ProcessPin:
    started = pin.get("started")
    return ProcessPin(int(pin["pid"]), None if started is None else datetime.fromisoformat(started))


def _status(process: Process) -> ServiceStatus:
    state = _STATES[process.state]
    running = state is State.RUNNING
    summary = f"{process.full_name} is {process.state.name}"
    if running:
        summary += f" (pid {process.pid}, since {rfc3339(process.started)[:19]}Z)" if process.started else ""
    elif process.exit_status:
        summary += f" (exit status {process.exit_status})"
    if process.spawn_error:
        summary += f": {process.spawn_error}"
    return ServiceStatus(
        state=state,
        summary=summary,
        instances=1,
        healthy=int(running),
        pin={"pid": process.pid, "started": None if process.started is None else process.started.isoformat()},
        started_at=process.started,
        facts={"state": process.state.name, "exit_status": process.exit_status, "description": process.description},
    )
