"""``app.process``: Check that the app's own process listens on its port, and that all of its workers run.

A port that accepts connections proves nothing about the app. Another program may listen there, one of several workers
may be stopped, or all workers may have no free file descriptors. Only the kernel of the host can distinguish these
cases.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from urllib.parse import urlsplit

from remediator.clients.host import process, sockets
from remediator.clients.host.process import Process
from remediator.clients.host.sockets import Activity
from remediator.core.listen import is_loopback
from remediator.errors import TargetError
from remediator.extensions.checks.base import Check, CheckAnswer, Evidence
from remediator.extensions.parameters import Parameters
from remediator.playbooks.facts import Fact
from remediator.playbooks.inventory import Service

_FULL = 95
"""A worker that uses at least this percentage of its file descriptors can hardly accept connections."""
_FILES = "Max open files"
_REAPED = 1.0
"""Seconds after which a process that has just ended, as in a reload, is gone with its sockets."""


class AppProcess(Check):
    """Find the process that listens on the port of an app on this host, and the state of its workers."""

    name = "app.process"
    needs = ("app_server", "http")
    facts = (
        Fact("listens", "boolean", "Whether a process listens on the port."),
        Fact("ours", "boolean", "Whether it is the process of the app; also false if no process listens."),
        Fact("listener", "string", "Program and process ID that listen on the port; empty if no process listens."),
        Fact("workers", "integer", "Workers of the app."),
        Fact("stopped", "list", "Process IDs of workers that are stopped or have ended."),
        Fact("files_percent", "integer", "File descriptors in use, of the worker that uses most.", unit="%"),
    )

    async def observe(self, service: Service, parameters: Parameters) -> Evidence:
        parts = urlsplit("" if service.http is None else service.http.url)
        host, port = parts.hostname or "", parts.port
        if service.app_server is None or port is None or not is_loopback(host):
            text = f"{service.name} has no 'app_server' with a loopback address: its processes cannot be seen from here"
            return Evidence(CheckAnswer.UNKNOWN, text)
        pid_file = service.app_server.pid_file
        seen = await asyncio.to_thread(_look, service.name, pid_file, port)
        stopped = frozenset(seen.facts.get("stopped", ()))
        if seen.answer is not CheckAnswer.UNKNOWN and not stopped:
            return seen
        # while a process ends, its port may have no owner, or the process is not reaped yet
        await asyncio.sleep(_REAPED)
        return await asyncio.to_thread(_look, service.name, pid_file, port, stopped)


def _look(name: str, pid_file: Path, port: int, before: frozenset[int] | None = None) -> Evidence:
    """Look once. A worker counts as stopped if it was so ``before`` too, unless this is the first look."""
    found = sockets.listeners(port)
    if found is None:
        return Evidence(CheckAnswer.UNKNOWN, f"a process of another user listens on port {port}")
    try:
        master: Process | None = process.named_by(pid_file)
        workers = process.children(master) if master is not None else ()
    except TargetError:
        master, workers = None, ()
    own = {each.pid for each in (master, *workers) if each is not None}
    listener = next((each for each in found if each.pid in own), found[0] if found else None)
    stopped = [each.pid for each in workers if sockets.activity(each.pid)[0] in (Activity.STOPPED, Activity.ENDED)]
    if before is not None:
        stopped = [pid for pid in stopped if pid in before]
    percent = max((_files_percent(each.pid) for each in workers), default=0)
    facts = {
        "listens": listener is not None,
        "ours": listener is not None and listener.pid in own,
        "listener": "" if listener is None else f"{listener.program} (process {listener.pid})",
        "workers": len(workers),
        "stopped": stopped,
        "files_percent": percent,
    }
    if listener is None:
        return Evidence(CheckAnswer.FAIL, f"no process listens on port {port} of {name}", facts)
    if not facts["ours"]:
        text = f"port {port} of {name} belongs to another program: {facts['listener']}"
        return Evidence(CheckAnswer.FAIL, text, facts)
    if stopped:
        pids = ", ".join(map(str, stopped))
        return Evidence(CheckAnswer.FAIL, f"{len(stopped)} of {len(workers)} workers are stopped: {pids}", facts)
    if percent >= _FULL:
        return Evidence(CheckAnswer.FAIL, f"a worker uses {percent} % of its file descriptors", facts)
    well = bool(workers)
    return Evidence(CheckAnswer.OK if well else CheckAnswer.FAIL, f"{name} has {len(workers)} running workers", facts)


def _files_percent(pid: int) -> int:
    """Return the file descriptors that a process uses, in percent of its limit; 0 if it is not visible."""
    folder = Path("/proc", str(pid))
    try:
        limits = (folder / "limits").read_text().splitlines()
        limit = next(line for line in limits if line.startswith(_FILES)).removeprefix(_FILES).split()[0]
        return 0 if limit == "unlimited" else round(100 * len(os.listdir(folder / "fd")) / max(int(limit), 1))
    except (OSError, StopIteration, ValueError):
        return 0
