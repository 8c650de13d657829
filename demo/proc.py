"""Processes as the kernel shows them in ``/proc``. A process or thread that ends during the reading counts as ended."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path


def pids() -> list[int]:
    """Return all processes."""
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal()]


def alive(pid: int) -> bool:
    """Return whether the process runs. A zombie, which no process has waited for, does not."""
    return _read(pid, "stat").rpartition(")")[2].split()[:1] not in ([], ["Z"])


def children(pid: int) -> list[int]:
    """Return the processes that a process started and that still run, or nothing if it has ended itself."""
    return [int(child) for text in of_threads(pid, "children") for child in text.split()]


def descendants(pid: int) -> list[int]:
    """Return the children of a process and their children, each after its own children."""
    return [each for child in children(pid) for each in (*descendants(child), child)]


def command_line(pid: int) -> str:
    """Return the program and its arguments, separated by spaces, or nothing if the process has ended."""
    return _read(pid, "cmdline").replace("\0", " ").strip()


def of_threads(pid: int, file: str) -> list[str]:
    """Return the text of this file of each thread."""
    try:
        return [_read(pid, f"task/{thread.name}/{file}") for thread in Path(f"/proc/{pid}/task").iterdir()]
    except OSError:
        return []


def _read(pid: int, file: str) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/{file}").read_text(errors="replace")
    return ""
