"""Processes of this host: which one a pid file names, its children, signals that cannot hit another, and argv that is
run without a shell."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from remediator.errors import Refused, TargetError, TimedOut, Unreachable

MAX_OUTPUT = 64 * 1024
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Process:
    """One incarnation of a process: its pid, and the kernel's tick at which it began, which no successor shares."""

    pid: int
    ticks: int

    @property
    def started_at(self) -> datetime:
        """When it began, to a hundredth of a second."""
        return _booted() + timedelta(seconds=self.ticks / _TICKS)


def named_by(pid_file: Path) -> Process:
    """The living process that a pid file names.

    Raises:
        TargetError: there is no such file, it holds no pid, or the process is gone.
    """
    try:
        pid = int(pid_file.read_text(encoding="ascii").strip())
    except OSError as error:
        raise TargetError(f"{pid_file} cannot be read: {error.strerror}") from None
    except ValueError:
        raise TargetError(f"{pid_file} does not hold a process id") from None
    found = look(pid)
    if found is None:
        raise TargetError(f"{pid_file} names process {pid}, which does not run")
    return found


def look(pid: int) -> Process | None:
    """The process with this id, unless it is gone or a zombie."""
    fields = _stat(pid)
    return None if fields is None or fields[0] in ("Z", "X") else Process(pid, int(fields[19]))


def _stat(pid: int) -> list[str] | None:
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None


def children(process: Process) -> tuple[Process, ...]:
    """Its living children, the oldest first.

    Raises:
        TargetError: the process is gone.
    """
    _same(process)
    try:
        pids = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    except OSError:
        raise TargetError(f"process {process.pid} is gone") from None
    found = (look(int(pid)) for pid in pids)
    return tuple(sorted((child for child in found if child is not None), key=lambda child: (child.ticks, child.pid)))


def send(process: Process, number: signal.Signals) -> None:
    """A signal to this very process: the kernel is asked by a handle, so that a successor of its pid is never hit.

    Raises:
        TargetError: it is gone, or its pid is another process's by now.
        Refused: it is not ours to signal.
    """
    try:
        handle = os.pidfd_open(process.pid)
    except OSError:
        raise TargetError(f"process {process.pid} is gone") from None
    try:
        _same(process)
        signal.pidfd_send_signal(handle, number)
    except ProcessLookupError:
        raise TargetError(f"process {process.pid} is gone") from None
    except PermissionError:
        raise Refused(f"process {process.pid} belongs to somebody else; {number.name} was not sent") from None
    finally:
        os.close(handle)


def _same(process: Process) -> None:
    if look(process.pid) != process:
        raise TargetError(f"process {process.pid} is not the one that was planned against any more")


def _booted() -> datetime:
    return datetime.fromtimestamp(time.time() - time.clock_gettime(time.CLOCK_BOOTTIME), UTC)


@dataclass(frozen=True, slots=True)
class Ended:
    """A command that ended by itself."""

    status: int
    output: str
    """Both streams, as text, the end of it if it was long."""


async def run(argv: Sequence[str], *, seconds: float, environment: Mapping[str, str] | None = None) -> Ended:
    """Run a program without a shell and without our environment, until it ends.

    Args:
        argv: program and arguments, handed over as they are.
        seconds: how long it may take; then it and its children are killed.
        environment: its variables; default: PATH and a plain locale.

    Raises:
        Unreachable: it could not be started.
        TimedOut: it did not end in time; what it did until then is done.
    """
    chosen = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}
    try:
        child = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={**chosen, **(environment or {})},
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        raise Unreachable(f"{argv[0]} cannot be started: {error}") from None
    status: int | None = None
    try:
        async with asyncio.timeout(seconds):
            output = await _read(child)
            status = await child.wait()
    except TimeoutError:
        raise TimedOut(f"{argv[0]} did not end within {seconds:g} s") from None
    finally:
        if status is None:  # also where it ended itself and left children that keep its output open
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            await child.wait()
    return Ended(status, output.decode(errors="replace"))


async def _read(child: asyncio.subprocess.Process) -> bytes:
    """The end of what it writes: all is read, so that it never waits for us, and little is kept."""
    assert child.stdout is not None, "it was started with a pipe"
    kept = b""
    while piece := await child.stdout.read(MAX_OUTPUT):
        kept = (kept + piece)[-MAX_OUTPUT:]
    return kept
