"""The bundled app as in production: `python -m app` starts the gunicorn master with uvicorn workers."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import httpx
import pytest

from tests.support.servers import DEADLINE, Server
from tests.support.servers.redis import Redis

ROOT = Path(__file__).parents[3]
INHERITED = ("PATH", "HOME", "LANG", "TMPDIR")


class App(Server):
    """The app in its own folder, which is also its release folder. Set ``variables`` before the start."""

    def __init__(self, folder: Path, port: int | None = None) -> None:
        super().__init__(folder, port)
        self.url = f"http://127.0.0.1:{self.port}"
        self.variables: dict[str, str] = {}

    def use(self, redis: Redis) -> None:
        """Make the app use this Redis."""
        self.variables |= {"SHOP_REDIS_PORT": str(redis.port), "SHOP_REDIS_PASSWORD": redis.password or ""}

    def command(self) -> list[str]:
        return [sys.executable, "-m", "app"]

    def environment(self) -> Mapping[str, str]:
        inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
        own = {
            "PYTHONPATH": str(ROOT),
            "SHOP_APP_PORT": str(self.port),
            "SHOP_APP_STATE_DIR": str(self.folder / "state"),
        }
        return inherited | own | self.variables

    def ready(self) -> bool:
        """Return whether the app is alive. /readyz reports whether its dependencies are there."""
        try:
            return super().ready() and httpx.get(f"{self.url}/livez").status_code == 200
        except httpx.TransportError:  # the master accepts before a worker answers, which takes long on a busy machine
            return False

    def wait(self) -> int:
        """Return the exit status after the app has ended."""
        assert self._process is not None, "not started"
        return self._process.wait(DEADLINE)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the master."""
        os.kill(self.pid, number)

    def workers(self) -> set[int]:
        """Return the process IDs of the master's children."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children")
        return {int(pid) for pid in children.read_text().split()}


MakeApp = Callable[..., App]


@pytest.fixture
def make_app(tmp_path: Path) -> Iterator[MakeApp]:
    """Return a function that makes an app with this Redis and variables, and starts it unless told otherwise."""
    made: list[App] = []

    def make(redis: Redis, *, start: bool = True, **variables: str) -> App:
        server = App(tmp_path / f"app-{len(made)}")
        made.append(server)
        server.use(redis)
        server.variables |= variables
        if start:
            server.start()
        return server

    yield make
    for server in made:
        server.stop()
