"""supervisord on a Unix socket and on a TCP port with credentials, in a temporary folder."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from demo import proc
from tests.support.servers import Server, accepts, require

_HEAD = """
[supervisord]
nodaemon=true
{user}
logfile={folder}/supervisord.log
pidfile={folder}/supervisord.pid
childlogdir={folder}
minfds=100
minprocs=10
[unix_http_server]
file={socket}
chmod=0700
[inet_http_server]
port=127.0.0.1:{port}
username=operator
password=opensesame
[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
"""


class Supervisord(Server):
    """A supervisord. ``programs`` maps names to the lines of their sections."""

    def __init__(self, folder: Path, port: int | None = None) -> None:
        super().__init__(folder, port)
        self.socket = str(folder / "s.sock")
        self.programs: dict[str, str] = {}

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    def program(self, name: str, command: str, *lines: str) -> None:
        """Add a program, before the start."""
        settings = (f"command={command}", "autostart=false", "startsecs=0", "autorestart=false", *lines)
        self.programs[name] = "\n".join(settings)

    def command(self) -> list[str]:
        require("supervisord", str(Path(sys.executable).with_name("supervisord")))
        text = _HEAD.format(
            user="user=root" if os.geteuid() == 0 else "", folder=self.folder, socket=self.socket, port=self.port
        )
        text += "".join(f"[program:{name}]\n{lines}\n" for name, lines in self.programs.items())
        path = self.folder / "supervisord.conf"
        path.write_text(text)
        return [sys.executable, "-W", "ignore", "-m", "supervisor.supervisord", "-c", str(path)]

    def ready(self) -> bool:
        return accepts(self.socket) and super().ready()

    def children(self) -> list[int]:
        """Return the processes that supervisord started and that still run."""
        return proc.children(self.pid)

    def stop(self) -> None:
        """Kill supervisord and its programs at once, because a normal stop waits a second for each."""
        if self._process is not None:
            children = self.children()
            self.kill()
            for pid in children:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


@pytest.fixture
def supervisord(tmp_path: Path) -> Iterator[Supervisord]:
    """Return a supervisord that is not started, so that the test can add programs."""
    server = Supervisord(tmp_path / "supervisord")
    yield server
    server.stop()
