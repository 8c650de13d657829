"""Processes of this host: pid files, children, signals that never hit another process, programs without a shell."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from remediator.errors import Refused, TargetError, TimedOut, Unreachable

MAX_OUTPUT = 64 * 1024
GRACE = timedelta(seconds=2)
"""Time to kill a program that exceeded its timeout. The timeout of the caller must be longer by this time."""
output_follower: ContextVar[Callable[[bytes], None] | None] = ContextVar("output_follower", default=None)
"""Receives each piece of the output of programs that the current task runs; None: the output is only returned."""
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Process:
    """A process, identified by its pid and the kernel tick of its start, which no later process shares."""

    pid: int
    ticks: int

    @property
    def started_at(self) -> datetime:
        """Start time, to a hundredth of a second."""
        booted = datetime.fromtimestamp(time.time() - time.clock_gettime(time.CLOCK_BOOTTIME), UTC)
        return booted + timedelta(seconds=self.ticks / _TICKS)


def named_by(pid_file: Path) -> Process:
    """Return the running process that a pid file names.

    Raises:
        TargetError: the file is missing or contains no pid, or the process is not running.
    """
    try:
        pid = int(pid_file.read_text(encoding="ascii").strip())
    except OSError as error:
        raise TargetError(f"cannot read {pid_file}: {error.strerror}") from None
    except ValueError:
        raise TargetError(f"{pid_file} does not contain a process ID") from None
    found = look(pid)
    if found is None:
        raise TargetError(f"{pid_file} names process {pid}, which is not running")
    return found


def look(pid: int) -> Process | None:
    """Return the process with this pid, or None if it has ended or is a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in ("Z", "X") else Process(pid, int(fields[19]))


def children(process: Process) -> tuple[Process, ...]:
    """Return the running children of a process, oldest first.

    Raises:
        TargetError: the process has ended.
    """
    _check_same(process)
    try:
        pids = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    except OSError:
        raise TargetError(f"process {process.pid} has ended") from None
    found = (look(int(pid)) for pid in pids)
    return tuple(sorted((child for child in found if child is not None), key=lambda child: (child.ticks, child.pid)))


def send(process: Process, number: signal.Signals) -> None:
    """Send a signal to exactly this process. A pidfd makes sure that a later process with the same pid is never hit.

    Raises:
        TargetError: it has ended, or its pid belongs to another process now.
        Refused: there is no permission to signal it.
    """
    try:
        handle = os.pidfd_open(process.pid)
    except OSError:
        raise TargetError(f"process {process.pid} has ended") from None
    try:
        _check_same(process)
        signal.pidfd_send_signal(handle, number)
    except ProcessLookupError:
        raise TargetError(f"process {process.pid} has ended") from None
    except PermissionError:
        raise Refused(
            f"no permission to signal process {process.pid}: it belongs to another user; {number.name} was not sent"
        ) from None
    finally:
        os.close(handle)


def _check_same(process: Process) -> None:
    if look(process.pid) != process:
        raise TargetError(f"process {process.pid} is not the planned one any more; nothing was changed")


@dataclass(frozen=True, slots=True)
class Ended:
    """Result of a program that ended."""

    status: int
    output: str
    """Both streams as text; only the end of a long output."""
    errors: str = ""
    """Standard error of a private program, which is not in ``output`` then."""


async def run(
    argv: Sequence[str], *, seconds: float, environment: Mapping[str, str] | None = None, private: bool = False
) -> Ended:
    """Run a program without a shell and without our environment, and wait until it ends.

    Args:
        argv: program and arguments, passed unchanged.
        seconds: timeout; then the program and its children are killed.
        environment: additional variables; PATH and LC_ALL are always set.
        private: the output is a secret: it is not shown live, and standard error is separate.

    Raises:
        Unreachable: it could not be started.
        TimedOut: it did not end in time. Its effects until then remain.
    """
    status: int | None = None
    follow = None if private else output_follower.get()
    async with started(argv, environment=environment, merge=not private) as child:
        if child.stdin is not None:
            child.stdin.close()
        try:
            async with asyncio.timeout(seconds):
                output, errors = await asyncio.gather(_read(child.stdout, follow), _read(child.stderr, None))
                status = await child.wait()
        except TimeoutError:
            raise TimedOut(f"{argv[0]} did not end within {seconds:g} s") from None
    return Ended(status, output.decode(errors="replace"), errors.decode(errors="replace"))


@asynccontextmanager
async def started(
    argv: Sequence[str], *, environment: Mapping[str, str] | None = None, merge: bool = False, limit: int = MAX_OUTPUT
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Start a program without a shell and without our environment. At the end, it and its children are killed.

    Args:
        argv: program and arguments, passed unchanged.
        environment: additional variables; PATH and LC_ALL are always set.
        merge: give it no input, and one stream for both outputs; else, it has a pipe for each.
        limit: length of the longest line that can be read from it, in bytes.

    Raises:
        Unreachable: it could not be started.
    """
    chosen = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}
    try:
        child = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.DEVNULL if merge else asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT if merge else asyncio.subprocess.PIPE,
            env={**chosen, **(environment or {})},
            start_new_session=True,
            limit=limit,
        )
    except (OSError, ValueError) as error:
        raise Unreachable(f"cannot start {argv[0]}: {error}") from None
    ended = False
    try:
        yield child
        ended = child.returncode is not None
    finally:
        if not ended:  # kill the group also if the program ended: its children may keep the output open
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            await child.wait()


async def _read(stream: asyncio.StreamReader | None, follow: Callable[[bytes], None] | None) -> bytes:
    """Read a stream to its end, so that the program never blocks, and keep only the end; empty without a pipe."""
    kept = b""
    while stream is not None and (piece := await stream.read(MAX_OUTPUT)):
        kept = (kept + piece)[-MAX_OUTPUT:]
        if follow is not None:
            follow(piece)
    return kept
