"""TCP sockets of this host: the process that listens on a port, its state, and its clients."""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from pathlib import Path

from remediator.clients.host import process
from remediator.errors import TargetError

_LISTEN = "0A"
_PROC = Path("/proc")
_SAMPLE = 0.2
_TICKS = os.sysconf("SC_CLK_TCK")
_LAST_RECEIVED = re.compile(r"\blastrcv:(\d+)")


class Activity(StrEnum):
    """The state of a process in the kernel."""

    RUNNING = "running"
    SLEEPING = "sleeping"
    """It waits for an event or for a time."""
    DISK = "disk"
    """It waits for a disk or another device, and cannot be interrupted."""
    STOPPED = "stopped"
    """A signal or a debugger stopped it. It does nothing until it is continued."""
    ENDED = "ended"


_LETTERS = {
    "R": Activity.RUNNING,
    "D": Activity.DISK,
    "T": Activity.STOPPED,
    "t": Activity.STOPPED,
    "Z": Activity.ENDED,
    "X": Activity.ENDED,
}


@dataclass(frozen=True, slots=True)
class Listener:
    """A process that listens on a port, with the name of its program."""

    pid: int
    program: str


@dataclass(frozen=True, slots=True)
class Connection:
    """An established connection: address and port of the peer, and the time since it last sent something."""

    peer: str
    idle: timedelta


def listeners(port: int) -> tuple[Listener, ...] | None:
    """Return the processes that listen on a TCP port; None if one does, but its process is not visible to us."""
    wanted: set[str] = set()
    for name in ("tcp", "tcp6"):
        try:
            lines = (_PROC / "net" / name).read_text().splitlines()[1:]
        except OSError:
            continue
        for row in map(str.split, lines):
            if row[3] == _LISTEN and int(row[1].rpartition(":")[2], 16) == port:
                wanted.add(f"socket:[{row[9]}]")
    if not wanted:
        return ()
    found = []
    for folder in _PROC.glob("[0-9]*"):
        try:
            opened = {os.readlink(path) for path in (folder / "fd").iterdir()}
            if wanted & opened:
                found.append(Listener(int(folder.name), (folder / "comm").read_text().strip()))
        except OSError:  # the process ended, or belongs to another user
            continue
    return tuple(sorted(found, key=lambda each: each.pid)) or None


def activity(pid: int) -> tuple[Activity, float]:
    """Return the state of a process, and its CPU time in the last moment, in percent of one CPU. Blocks."""
    first = _stat(pid)
    time.sleep(_SAMPLE)
    second = _stat(pid)
    if first is None or second is None:
        return Activity.ENDED, 0.0
    used = (int(second[11]) + int(second[12]) - int(first[11]) - int(first[12])) / _TICKS
    return _LETTERS.get(second[0], Activity.SLEEPING), round(100 * used / _SAMPLE, 1)


def _stat(pid: int) -> list[str] | None:
    try:
        return (_PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None


async def connections(port: int) -> tuple[Connection, ...]:
    """Return the established connections to a port of this host, from the socket statistics of the kernel.

    Raises:
        Unreachable: ``ss`` is not installed.
        TargetError: ``ss`` reports an error.
        TimedOut: it does not end in time.
    """
    argv = ("ss", "-tinH", "state", "established", f"( sport = :{port} )")
    ended = await process.run(argv, seconds=5.0)
    if ended.status != 0:
        raise TargetError(f"ss: {ended.output.strip()[-200:]}")
    found, peer = [], ""
    for line in ended.output.splitlines():
        if not line[:1].isspace():
            peer = line.split()[-1]
        elif peer:
            last = _LAST_RECEIVED.search(line)
            found.append(Connection(peer, timedelta(milliseconds=int(last[1]) if last else 0)))
            peer = ""
    return tuple(found)
