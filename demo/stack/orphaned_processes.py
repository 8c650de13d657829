"""Find the processes of a stack in the kernel's lists, even if its supervisord is gone."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

from demo import proc
from demo.stack.settings import Settings

_REWRITE_ENVIRONMENT = ("redis-server", "nginx")
"""Programs that overwrite their environment with their title. They work in the state folder."""


def find(settings: Settings) -> list[int]:
    """Return the processes of this stack: supervisord, its programs, and their children. Zombies are left out."""
    return [pid for pid in proc.pids() if pid != os.getpid() and _ours(Path(f"/proc/{pid}"), settings)]


def _ours(process: Path, settings: Settings) -> bool:
    try:
        if process.joinpath("stat").read_text(errors="replace").rpartition(")")[2].split()[0] == "Z":
            return False
        if _has(process, "cmdline", "-m", "supervisor.supervisord", str(settings.supervisord_conf)):
            return True
        if _has(process, "environ", f"SUPERVISOR_SERVER_URL={settings.supervisor_url}"):
            return True
        name = process.joinpath("comm").read_text().strip()
        return name in _REWRITE_ENVIRONMENT and process.joinpath("cwd").readlink().is_relative_to(settings.state)
    except OSError:  # the process has ended or belongs to another user
        return False


def _has(process: Path, file: str, *wanted: str) -> bool:
    found = process.joinpath(file).read_bytes().split(b"\0")
    return all(os.fsencode(each) in found for each in wanted)


def send(pids: list[int], number: signal.Signals) -> None:
    """Send a signal to all of these processes. Processes that have ended are ignored."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
