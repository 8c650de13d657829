"""Real servers for tests: each on a free loopback port, in a folder of its own, stopped at the end.

Import a fixture where it is used: ``from tests.servers import redis_server``. Where the program is not installed, a
test is skipped on a laptop and fails when ``CI=1``.
"""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import httpx
import pytest
import redis

START_SECONDS = 20.0
ROOT = Path(__file__).parent.parent


def free_port() -> int:
    """A loopback port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_until(condition: Callable[[], object], what: str, seconds: float = START_SECONDS) -> None:
    """Polls until `condition` is true; fails the test, saying `what` did not come true, after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"not within {seconds} s: {what}")
        time.sleep(0.01)


def program(name: str) -> str:
    """The path of an installed program; skips the test without it, or fails it when CI=1."""
    path = shutil.which(name)
    if path is None:
        give_up = pytest.fail if os.environ.get("CI") == "1" else pytest.skip
        give_up(f"{name} is not installed")
    return path


class RedisServer:
    """A real redis-server with a password, AOF on, that can be killed, hung and started again on the same port."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        self.port = free_port()
        self.password = secrets.token_hex(8)
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def url(self) -> str:
        return f"redis://:{self.password}@127.0.0.1:{self.port}/0"

    @property
    def log(self) -> str:
        return (self.folder / "redis.log").read_text()

    def client(self) -> redis.Redis:
        """A client of the caller's; close it, or use it in a `with`."""
        return redis.Redis(port=self.port, password=self.password, socket_timeout=5)

    def start(self) -> None:
        """Starts the server and waits until it answers."""
        options = ("--port", str(self.port), "--bind", "127.0.0.1", "--requirepass", self.password)
        files = ("--dir", str(self.folder), "--appendonly", "yes", "--save", "", "--logfile", "redis.log")
        command = [program("redis-server"), *options, *files, *self._options]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        wait_until(self.answers, f"redis-server answers on port {self.port}")

    def answers(self) -> bool:
        try:
            with redis.Redis(port=self.port, password=self.password, socket_timeout=0.5) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    def stop(self) -> None:
        """An orderly end, as by a service manager; also of a server that hangs or has ended already."""
        if self._process and self._process.poll() is None:
            self._process.send_signal(signal.SIGCONT)
            self._end(signal.SIGTERM)

    def kill(self) -> None:
        """kill -9."""
        self._end(signal.SIGKILL)

    def hang(self) -> None:
        """SIGSTOP: the port stays open, and nothing answers."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def restart(self) -> None:
        """Stops the server, however it is, and starts it on the same port with the same data."""
        self.stop()
        self.start()

    def _end(self, how: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(how)
        self._process.wait(START_SECONDS)


class AppServer:
    """The bundled app as in production: `python -m app`, so gunicorn with workers, in a folder of its own."""

    def __init__(self, folder: Path, variables: Mapping[str, str]) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        inherited = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        own = {"PYTHONPATH": str(ROOT), "APP_PORT": str(self.port), "APP_STATE_DIR": str(folder / "state")}
        self.variables = inherited | own | dict(variables)
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def pid(self) -> int:
        """Of gunicorn's master."""
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        """Standard output and standard error so far."""
        return (self.folder / "app.log").read_text()

    def launch(self) -> None:
        """Starts the process, in its folder, and does not wait for it."""
        with (self.folder / "app.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "app"], cwd=self.folder, env=self.variables, stdout=log, stderr=log
            )

    def start(self) -> None:
        """Starts the app and waits until it is alive."""
        self.launch()
        wait_until(self.alive, f"the app is alive; its log: {self.folder / 'app.log'}")

    def alive(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            pytest.fail(f"the app ended with status {self._process.returncode}:\n{self.log}")
        try:
            return httpx.get(f"{self.url}/livez", timeout=1).status_code == 200
        except httpx.TransportError:
            return False

    def wait(self) -> int:
        """The exit status, once the app has ended by itself."""
        assert self._process is not None
        return self._process.wait(START_SECONDS)

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def stop(self) -> None:
        if self._process and self._process.poll() is None:
            self._process.terminate()
            self._process.wait(START_SECONDS)


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    """A redis-server of this test's own, running."""
    server = RedisServer(tmp_path / "redis")
    server.start()
    yield server
    server.stop()
