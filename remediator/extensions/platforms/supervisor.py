"""Manage programs of supervisord, on this or another host, over XML-RPC."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from remediator.clients.endpoints import BasicAuth, Endpoint
from remediator.clients.host.releases import ReleaseFolders
from remediator.clients.host.supervisor import Fault, Process, ProcessPin, ProcessState, Supervisor, SupervisorRefused
from remediator.core.clock import SystemClock, rfc3339
from remediator.core.release import Release
from remediator.errors import Refused, TargetError
from remediator.extensions.log_lines import of_last_start
from remediator.extensions.platforms.base import Platform, ServiceStatus, State
from remediator.playbooks.inventory import Service
from remediator.playbooks.platform_bindings import SupervisorBinding

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
_LOG_BYTES = 65_536
"""How much of a log is read, to find the first line of the last start in it."""
_PATIENCE = 60.0
"""Seconds that a program may take to stop, and again to start, in a rollback."""
_EVENT = re.compile(
    r"^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d+) [A-Z]+ (exited: |stopped: |spawned: ')([^ ']+)'? (.*)$", re.MULTILINE
)
"""A line of supervisord's log about the end or the start of a process. Its times are local times of the host."""
_RECENT = timedelta(minutes=2)
"""Unexpected ends that are older than this at the last start are another matter."""


class SupervisorPlatform(Platform):
    """Services that run as supervisord programs."""

    kind = "supervisor"
    needs = {"service.releases": ("releases",), "service.rollback": ("releases",)}

    def __init__(self) -> None:
        self._clients: dict[tuple[str, str | None], Supervisor] = {}

    async def aclose(self) -> None:
        """Close all connections."""
        for client in self._clients.values():
            await client.aclose()

    async def missing_rights(self, service: Service, action: str) -> tuple[str, ...]:
        """Return the folders that a rollback must write to and may not. supervisord itself has no separate rights."""
        if action != "service.rollback" or service.releases is None:
            return ()
        return await asyncio.to_thread(_folders(service).missing_rights)

    async def status(self, service: Service) -> ServiceStatus:
        binding, client = self._of(service)
        process = await _find(client, binding.program)
        release, switched = None, None
        if service.releases is not None:
            release, switched = await asyncio.to_thread(_in_use, _folders(service))
        try:
            crashes = crashes_in(await client.own_log(), process.name, switched)
        except Refused:  # the log file is missing, or supervisord cannot send it; the state itself is known
            crashes = 0
        state = _STATES[process.state]
        summary = f"{process.full_name} is {process.state.name}"
        if state is State.RUNNING:
            summary += f" (pid {process.pid}, since {rfc3339(process.started)[:19]}Z)" if process.started else ""
        elif process.exit_status:
            summary += f" (exit status {process.exit_status})"
        if process.spawn_error:
            summary += f": {process.spawn_error}"
        return ServiceStatus(
            state=state,
            summary=summary,
            instances=1,
            healthy=int(state is State.RUNNING),
            pin={
                "pid": process.pid,
                "started": None if process.started is None else process.started.isoformat(),
                **({} if release is None else {"release": release}),
            },
            started_at=process.started,
            facts={
                "process_state": process.state.name,
                "exit_status": process.exit_status,
                "description": process.description,
            },
            lives={process.full_name: f"{process.pid} {process.started}"},
            crashes=crashes,
        )

    async def logs(self, service: Service, lines: int, *, previous: bool = False) -> str:
        """Return the last lines of both streams: of the last start of the process, or of the previous start.

        supervisord has one log over all starts, adds no times, and does not record the order of two streams. Errors
        without a time belong to the last start if that start failed, and to an earlier start if the process runs.
        """
        binding, client = self._of(service)
        runs = (await _find(client, binding.program)).state is ProcessState.RUNNING
        texts = [await client.stdout(binding.program, _LOG_BYTES)]
        try:
            texts.insert(0 if runs else 1, await client.stderr(binding.program, _LOG_BYTES))
        except SupervisorRefused as error:
            if error.fault is not Fault.NO_FILE:
                raise
        owned = (of_last_start(text, previous=previous) for text in texts if text)
        return "\n".join("\n".join(text.splitlines()[-lines:]) for text in owned if text)

    def describe_restart(self, service: Service, stop_timeout: float) -> str:
        binding = _binding(service)
        return f"supervisord at {binding.url}: stopProcess({binding.program!r}) if it runs, then startProcess"

    async def restart(self, service: Service, pin: Mapping[str, Any], stop_timeout: float) -> None:
        binding, client = self._of(service)
        started = pin.get("started")
        planned = ProcessPin(int(pin["pid"]), None if started is None else datetime.fromisoformat(started))
        process = await _find(client, binding.program)
        if process.pin != planned:
            raise TargetError(
                f"{service.name} has pid {process.pid}, not pid {planned.pid}: it was restarted after planning; "
                "nothing was changed"
            )
        if process.state in (ProcessState.RUNNING, ProcessState.STARTING, ProcessState.BACKOFF):
            await client.stop(binding.program, expected=planned, seconds=stop_timeout)
        await client.start(binding.program, seconds=stop_timeout)

    async def releases(self, service: Service) -> tuple[Release, ...]:
        """Return the release folders of the inventory. A link names the current one."""
        found = await asyncio.to_thread(_folders(service).all)
        return tuple(
            Release(each.name, each.at, each.current, {"redo": each.undone}, deployed_by=each.deployed_by)
            for each in found
        )

    def describe_rollback(self, service: Service, to: str) -> str:
        binding, folders = _binding(service), _folders(service)
        return (
            f"link {folders.link} to {folders.releases / to}; supervisord at {binding.url}: "
            f"stopProcess({binding.program!r}) if it runs, then startProcess"
        )

    async def rollback(self, service: Service, pin: Mapping[str, Any], to: str) -> None:
        """Switch the link if it is as planned, and restart the program.

        The process is not compared, because a crashing program has a new process each time.
        """
        binding, client = self._of(service)
        folders, now = _folders(service), SystemClock().now()
        await _find(client, binding.program)  # ensure that supervisord answers before anything is changed
        await asyncio.to_thread(folders.switch, to, expected=str(pin["release"]), now=now)
        try:
            await client.stop(binding.program, seconds=_PATIENCE)
        except SupervisorRefused as error:
            if error.fault is not Fault.NOT_RUNNING:
                raise
        await client.start(binding.program, seconds=_PATIENCE)

    def _of(self, service: Service) -> tuple[SupervisorBinding, Supervisor]:
        binding = _binding(service)
        key = (binding.url, binding.username)
        if key not in self._clients:
            basic = None
            if binding.username is not None and binding.password_file is not None:
                basic = BasicAuth(username=binding.username, password_file=binding.password_file)
            self._clients[key] = Supervisor(Endpoint(url=binding.url, basic=basic))
        return binding, self._clients[key]


def _binding(service: Service) -> SupervisorBinding:
    if not isinstance(service.platform, SupervisorBinding):
        raise TargetError(f"{service.name} does not run under supervisord")
    return service.platform


def _folders(service: Service) -> ReleaseFolders:
    if service.releases is None:
        raise TargetError(f"service {service.name!r} has no 'releases' in the inventory; add it")
    found = service.releases
    return ReleaseFolders(Path(os.path.normpath(found.releases)), Path(os.path.normpath(found.current)))


async def _find(client: Supervisor, program: str) -> Process:
    try:
        return await client.process(program)
    except SupervisorRefused as error:
        if error.fault is Fault.BAD_NAME:
            raise TargetError(f"supervisord has no program {program!r}; correct the inventory") from None
        raise


def _in_use(folders: ReleaseFolders) -> tuple[str, datetime]:
    """Return the release in use, and the local time since when, as supervisord writes it into its log."""
    return folders.current(), datetime.fromtimestamp(folders.link.lstat().st_mtime)  # noqa: DTZ006


def crashes_in(log: str, name: str, switched: datetime | None = None) -> int:
    """Count the unexpected ends of a process in the two minutes before its last start, in supervisord's log.

    Ends before an operator or a deployment stopped the process are not counted. Ends before the release was switched,
    at that local time, are not counted either: these are crashes of another release.
    """
    found = _EVENT.findall(log)
    events = [(datetime.fromisoformat(at), what.strip(": '"), text) for at, what, whose, text in found if whose == name]
    last = max((at for at, what, _ in events if what == "spawned"), default=None)
    crashes = 0
    for at, what, text in events:
        if what == "stopped" or (switched is not None and at < switched):
            crashes = 0
        elif what == "exited" and "not expected" in text and last is not None and last - at < _RECENT:
            crashes += 1
    return crashes
