"""The bundled app as in production: `python -m app`, so gunicorn's master with uvicorn workers."""

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
    """Started in its own folder, which is also its release folder. Set ``variables`` before the start."""

    def __init__(self, folder: Path, port: int | None = None) -> None:
        super().__init__(folder, port)
        self.url = f"http://127.0.0.1:{self.port}"
        self.variables: dict[str, str] = {}

    def use(self, redis: Redis) -> None:
        """Let it use this Redis."""
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
        """It is alive; whether it has what it needs is /readyz' business."""
        try:
            return super().ready() and httpx.get(f"{self.url}/livez").status_code == 200
        except httpx.TransportError:  # the master accepts before a worker answers; on a busy machine that takes long
            return False

    def wait(self) -> int:
        """The exit status, once it has ended by itself."""
        assert self._process is not None, "not started"
        return self._process.wait(DEADLINE)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the master."""
        os.kill(self.pid, number)

    def workers(self) -> set[int]:
        """The process ids of the master's children."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children")
        return {int(pid) for pid in children.read_text().split()}


MakeApp = Callable[..., App]


@pytest.fixture
def make_app(tmp_path: Path) -> Iterator[MakeApp]:
    """Make one that uses this Redis, with these variables; start it unless told not to."""
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
