"""redis-server in every state that a remedy can meet, and Sentinels."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.servers import Server, free_port, require


class Redis(Server):
    """A redis-server without persistence. ``settings`` are lines of redis.conf. Set ``password`` before the start."""

    def __init__(self, folder: Path, port: int | None = None) -> None:
        super().__init__(folder, port)
        self.socket = folder / "r.sock"
        self.settings: list[str] = []
        self.password: str | None = None

    def command(self) -> list[str]:
        path = self.folder / "redis.conf"
        if not path.exists():
            path.write_text("\n".join(self._lines()) + "\n")
        return [require("redis-server"), str(path)]

    def _lines(self) -> list[str]:
        lines = [f"port {self.port}", "bind 127.0.0.1", f"dir {self.folder}", f"unixsocket {self.socket}"]
        lines += ['save ""', "appendonly no", *self.settings]
        return lines if self.password is None else [*lines, f"requirepass {self.password}"]

    def ready(self) -> bool:
        """Return whether the server answers, even if it is still loading."""
        return super().ready() and self._cli("PING").stdout.strip() != ""

    def ask(self, *command: str) -> str:
        """Send a command with redis-cli and return the reply."""
        done = self._cli(*command)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def _cli(self, *command: str) -> subprocess.CompletedProcess[str]:
        argv = [require("redis-cli"), "-p", str(self.port), *command]
        secret = {} if self.password is None else {"REDISCLI_AUTH": self.password}
        return subprocess.run(
            argv, capture_output=True, text=True, timeout=60, check=False, env={**os.environ, **secret}
        )


class Sentinel(Redis):
    """One Sentinel. Set ``master`` (a Redis) and ``quorum`` before the start."""

    master: Redis
    quorum = 2

    def command(self) -> list[str]:
        return [*super().command(), "--sentinel"]

    def _lines(self) -> list[str]:
        watch = f"monitor main 127.0.0.1 {self.master.port} {self.quorum}"
        times = ("down-after-milliseconds main 500", "failover-timeout main 2000")
        return [f"port {self.port}", f"dir {self.folder}", *(f"sentinel {each}" for each in (watch, *times))]


MakeRedis = Callable[..., Redis]


@pytest.fixture
def make_redis(tmp_path: Path) -> Iterator[MakeRedis]:
    """Return a function that starts a Redis with these lines of redis.conf and these attributes."""
    made: list[Redis] = []

    def make(*settings: str, kind: type[Redis] = Redis, start: bool = True, **attributes: Any) -> Redis:
        server = kind(tmp_path / f"redis-{len(made)}", free_port())
        made.append(server)
        server.settings += settings
        for name, value in attributes.items():
            setattr(server, name, value)
        if start:
            server.start()
        return server

    yield make
    for server in made:
        server.kill()


@pytest.fixture
def redis_server(make_redis: MakeRedis) -> Redis:
    """Return a running Redis for one test, with a password."""
    return make_redis(password="opensesame")
