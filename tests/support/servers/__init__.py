"""Real servers for tests, one module each, which start on a free port, wait until ready, hang, kill and stop."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.support import commands

DEADLINE = 120.0
"""Seconds that tests wait for a required event, long for a busy machine."""


def require(*programs: str) -> str:
    """Return the path of the first of these programs that is installed.

    Without any of them, the test is skipped. With REQUIRE_ALL=1 it fails.
    """
    for program in programs:
        path = shutil.which(program, path=os.environ["PATH"] + ":/usr/sbin:/usr/local/sbin")
        if path:
            return path
    message = f"needs {programs[0]}, which is not installed"
    if os.environ.get("REQUIRE_ALL") == "1":
        pytest.fail(message)
    pytest.skip(message)


def free_port() -> int:
    """Return a free TCP port of 127.0.0.1.

    The port is random and below the range of ports for outgoing connections. So no other connection can take it before
    the server binds it.
    """
    while True:
        port = random.SystemRandom().randrange(10_240, 32_768)  # tests may have seeded the global generator
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port


def until(condition: Callable[[], bool], what: str, seconds: float = DEADLINE, pause: float = 0.02) -> None:
    """Poll until the condition holds. A LookupError in the condition counts as not yet.

    ``pause`` is the time between two polls in seconds. Use more if a poll is expensive for the service.

    Raises:
        AssertionError: the condition did not hold within ``seconds``.
    """
    deadline = time.monotonic() + seconds
    while True:
        missing: LookupError | None = None
        try:
            if condition():
                return
        except LookupError as error:
            missing = error
        if time.monotonic() >= deadline:
            raise AssertionError(f"{what}: not within {seconds:g} s") from missing
        time.sleep(pause)


def accepts(address: tuple[str, int] | str) -> bool:
    """Return whether a host and port, or the path of a Unix socket, accepts connections."""
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    with socket.socket(family) as probe:
        probe.settimeout(1)
        return probe.connect_ex(address) == 0


class Server:
    """One server process with its folder, log and port.

    A subclass defines how the server is started (``command``) and when it is ready (``ready``).
    """

    def __init__(self, folder: Path, port: int | None = None) -> None:
        self.folder = folder
        self.folder.mkdir(parents=True, exist_ok=True)
        self.port = port or free_port()
        self.log_file = folder / "log"
        """File of its output."""
        self._process: subprocess.Popen[bytes] | commands.Command | None = None

    def command(self) -> list[str]:
        """Return the arguments that start the server in the foreground."""
        raise NotImplementedError

    def environment(self) -> Mapping[str, str]:
        """Return the environment of the server."""
        return os.environ

    def user(self) -> str | None:
        """Return the user for a server that refuses to run as root."""
        return None

    def ready(self) -> bool:
        """Return whether the server answers. It is called only while the process lives."""
        return accepts(("127.0.0.1", self.port))

    @property
    def pid(self) -> int:
        """Return the process ID of the running server."""
        assert self._process is not None, "not started"
        return self._process.pid

    @property
    def log(self) -> str:
        """Return the output of all starts so far."""
        return self.log_file.read_text(errors="replace")

    def launch(self) -> None:
        """Start the server without waiting."""
        self._process = self._started()

    def _started(self) -> subprocess.Popen[bytes] | commands.Command:
        with self.log_file.open("ab", buffering=0) as log:
            return subprocess.Popen(
                self.command(),
                cwd=self.folder,
                env=dict(self.environment()),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                user=self.user(),
                group=self.user(),
            )

    def start(self) -> None:
        """Start the server, and wait until it is ready."""
        self.launch()
        try:
            until(self._answers, f"{type(self).__name__} ready")
        except AssertionError as error:
            self.kill()
            raise AssertionError(f"{error}\n{self.log}") from None

    def _answers(self) -> bool:
        assert self._process is not None and self._process.poll() is None, "it ended while starting"
        return self.ready()

    def stop(self) -> None:
        """Stop the server with SIGTERM, and with SIGKILL after the deadline. A stopped server stays stopped."""
        if self._process is None:
            return
        self.resume()
        self._process.terminate()
        try:
            self._process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            self.kill()
        self._process = None

    def kill(self) -> None:
        """Kill the server with kill -9, and wait until it is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        """Send SIGSTOP: the server keeps its connections and does not answer."""
        self._signal(signal.SIGSTOP)
        until(self._stands_still, "every thread has stopped")

    def resume(self) -> None:
        """Send SIGCONT."""
        self._signal(signal.SIGCONT)

    def _stands_still(self) -> bool:
        if self._process is None or self._process.poll() is not None:
            return True
        states = [path.read_text().rpartition(")")[2].split()[0] for path in self._stat_files()]
        return set(states) <= {"T", "t"}

    def _stat_files(self) -> list[Path]:
        assert self._process is not None
        return list(Path(f"/proc/{self._process.pid}/task").glob("*/stat"))

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)
