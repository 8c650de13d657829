"""Commands of remediator, each as a separate process, without the seconds of its imports.

A server, one for all tests of a worker, has imported the commands and the service. Each process is forked from this
server. In the process, a warning is an error. Use it for tests of the behaviour of a command or the service. A test of
the process itself (its imports, its Python environment, its encoding) starts Python.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Mapping
from multiprocessing.connection import wait
from pathlib import Path
from tempfile import TemporaryDirectory

from demo.stack.settings import ROOT
from remediator.cli.main import COMMANDS, GROUPS, main

LONGEST = 120.0
"""Seconds after which a command is killed."""

_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(
    [*(f"remediator.cli.{name}" for name in (*COMMANDS, *GROUPS)), "remediator.web.routes", "uvicorn.protocols.http"]
)
_changes = threading.Lock()
"""Held while a process is started or its status is read: tests run commands in several threads."""


def remediator(
    *argv: str, folder: Path = ROOT, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder, with this environment or the test's. Return its status and output."""
    with TemporaryDirectory() as kept:
        stdout, stderr = Path(kept, "stdout"), Path(kept, "stderr")
        command = Command(argv, stdout, stderr, folder, environment)
        try:
            status = command.wait(LONGEST)
        except subprocess.TimeoutExpired:
            command.kill()
            status = command.wait()
        return subprocess.CompletedProcess(argv, status, stdout.read_text("utf-8"), stderr.read_text("utf-8"))


class Command:
    """A running command with the interface of :class:`subprocess.Popen`.

    The command leads a new session. If one of its streams is a terminal, the command opens it instead of appending to
    it.
    """

    def __init__(
        self,
        argv: tuple[str, ...],
        stdout: Path,
        stderr: Path,
        folder: Path = ROOT,
        environment: Mapping[str, str] | None = None,
        stdin: Path = Path("/dev/null"),
    ) -> None:
        sys.audit("os.fork")  # tests/conftest.py detects with it that a unit test starts a process
        given = dict(os.environ if environment is None else environment)
        self._process = _SERVER.Process(
            target=_command, args=(argv, folder, given, (stdin, stdout, stderr)), daemon=True
        )
        with _changes:
            self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    def poll(self) -> int | None:
        """Return the exit status, or None while the command runs."""
        with _changes:
            return self._process.exitcode

    @property
    def returncode(self) -> int | None:
        """Return the exit status, or None while the command runs."""
        return self.poll()

    def wait(self, timeout: float | None = None) -> int:
        """Wait until the command has ended, and return its exit status.

        Raises:
            subprocess.TimeoutExpired: the command did not end within ``timeout`` seconds.
        """
        if not wait([self._process.sentinel], timeout):
            raise subprocess.TimeoutExpired("remediator", timeout or 0)
        status = self.poll()
        assert status is not None
        return status

    def send_signal(self, number: int) -> None:
        """Send the command a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)


def _command(
    argv: tuple[str, ...], folder: Path, environment: dict[str, str], standard: tuple[Path, Path, Path]
) -> None:
    """Turn this process into a command that was started by ``python -W error -m remediator``."""
    os.setsid()
    for number, (path, mode) in enumerate(
        zip(standard, (os.O_RDONLY, os.O_WRONLY | os.O_APPEND, os.O_WRONLY | os.O_APPEND), strict=True)
    ):
        opened = os.open(path, mode | os.O_CREAT if mode != os.O_RDONLY else mode)
        os.dup2(opened, number)
        os.close(opened)
    # new objects, because Python detects the kind of file only once
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", 1, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
    warnings.simplefilter("error")
    warnings.filterwarnings("ignore", "'imghdr' is deprecated", DeprecationWarning)  # Apprise imports it
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    os.chdir(folder)
    sys.argv = ["remediator", *argv]
    main()
