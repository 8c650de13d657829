"""Hosts behind a real sshd on the loopback interface."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from demo.fleet.simulated_hosts import SimulatedHosts
from remediator.clients.ssh import configuration
from remediator.clients.ssh.client import RemoteHost
from remediator.clients.ssh.settings import Host
from tests.support.servers import require

UNIT = "web.service"


@pytest.fixture
def ssh_folder() -> Iterator[Path]:
    """The folder of ssh's configurations and sockets.

    The socket of a shared connection has at most 107 bytes, which the folders of parallel tests use up.
    """
    require("sshd")
    with TemporaryDirectory(prefix="ssh-", ignore_cleanup_errors=True) as folder:
        configuration.use(Path(folder))
        yield Path(folder)


@pytest.fixture
def hosts(tmp_path: Path, ssh_folder: Path) -> Iterator[SimulatedHosts]:
    """Two hosts, each with a unit that runs."""
    with SimulatedHosts(tmp_path / "hosts", ["web-1", "web-2"], [UNIT]) as made:
        yield made


@pytest.fixture
def web(hosts: SimulatedHosts) -> RemoteHost:
    """The client of the first host."""
    return client(hosts, "web-1")


def client(hosts: SimulatedHosts, name: str, **changes: object) -> RemoteHost:
    """Return a client of a host."""
    return RemoteHost(Host.model_validate({**hosts.ssh, **hosts.host(name), **changes}))


MakeHosts = Callable[..., SimulatedHosts]


@pytest.fixture
def make_hosts(tmp_path: Path, ssh_folder: Path) -> Iterator[MakeHosts]:
    """Make hosts with other settings; they end with the test."""
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
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if words.encode() in path.read_bytes().replace(b"\0", b" "):
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def kill(words: str) -> None:
    """Kill the processes with these words in their command line."""
    for pid in processes(words):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
