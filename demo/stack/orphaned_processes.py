"""Which processes belong to a stack, found from the kernel's own lists, also when its supervisord is gone."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

from demo.stack.settings import Settings

_REWRITE_ENVIRONMENT = ("redis-server", "nginx")
"""They put their titles where their environment was, and work in the state folder."""


def find(settings: Settings) -> list[int]:
    """The processes of this stack: supervisord, its programs, and their children. Zombies are none."""
    pids = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal())
    return [pid for pid in pids if pid != os.getpid() and _ours(Path(f"/proc/{pid}"), settings)]


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
    except OSError:  # it ended meanwhile, or is another user's
        return False


def _has(process: Path, file: str, *wanted: str) -> bool:
    found = process.joinpath(file).read_bytes().split(b"\0")
    return all(os.fsencode(each) in found for each in wanted)


def send(pids: list[int], number: signal.Signals) -> None:
    """A signal to all of them; those that are gone do not matter."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
