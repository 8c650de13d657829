"""Hosts behind a real sshd on the loopback interface."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from demo import proc
from demo.fleet.simulated_hosts import SimulatedHosts
from remediator.clients.ssh import configuration
from remediator.clients.ssh.client import RemoteHost
from remediator.clients.ssh.settings import Host
from tests.support.servers import require

UNIT = "web.service"


@pytest.fixture
def ssh_folder() -> Iterator[Path]:
    """Return the folder of ssh's configurations and sockets.

    The path of a connection's socket has at most 107 bytes, and folders of parallel tests would be too long.
    """
    require("sshd")
    with TemporaryDirectory(prefix="ssh-", ignore_cleanup_errors=True) as folder:
        configuration.use(Path(folder))
        yield Path(folder)


@pytest.fixture
def hosts(tmp_path: Path, ssh_folder: Path) -> Iterator[SimulatedHosts]:
    """Return two hosts, each with a running unit."""
    with SimulatedHosts(tmp_path / "hosts", ["web-1", "web-2"], [UNIT]) as made:
        yield made


@pytest.fixture
def web(hosts: SimulatedHosts) -> RemoteHost:
    """Return the client of the first host."""
    return client(hosts, "web-1")


def client(hosts: SimulatedHosts, name: str, **changes: object) -> RemoteHost:
    """Return a client of a host."""
    return RemoteHost(Host.model_validate({**hosts.ssh, **hosts.host(name), **changes}))


MakeHosts = Callable[..., SimulatedHosts]


@pytest.fixture
def make_hosts(tmp_path: Path, ssh_folder: Path) -> Iterator[MakeHosts]:
    """Return a function that makes hosts with other settings. They end with the test."""
    made: list[SimulatedHosts] = []

    def make(folder: str, names: list[str], **given: object) -> SimulatedHosts:
        made.append(SimulatedHosts(tmp_path / folder, names, [UNIT], **given))  # type: ignore[arg-type]
        made[-1].start()
        return made[-1]

    yield make
    for each in made:
        each.stop()


def processes(words: str) -> list[int]:
    """Return the processes with these words in their command line."""
    return [pid for pid in proc.pids() if words in proc.command_line(pid)]


def kill(words: str) -> None:
    """Kill the processes with these words in their command line."""
    for pid in processes(words):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
