"""The service reports its start and stop in its log and to systemd."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.promises.conftest import MakeInstallation
from tests.support.replicas import CrashingRemediator
from tests.support.servers import free_port, until


def events(replica: CrashingRemediator) -> list[dict[str, Any]]:
    """Return the events of the service's log. Every line is JSON, because the output is not a terminal."""
    return [json.loads(line) for line in replica.log.splitlines()]


def event(replica: CrashingRemediator, name: str) -> dict[str, Any]:
    """Return the first event of this name."""
    return next(item for item in events(replica) if item["event"] == name)


def test_the_start_names_what_is_served_and_what_cannot_be_reached(make_installation: MakeInstallation) -> None:
    """The log of the start has addresses, store and playbooks, and one line for each server that cannot be reached."""
    installation = make_installation()
    dead = f"http://127.0.0.1:{free_port()}"
    replica = installation.replica(
        alertmanagers=[{"url": dead}],
        prometheus={"url": dead},
        channels={"ops": {"kind": "webhook", "url": f"{dead}/hook"}},
    )
    replica.inventory["services"]["gone"] = {"platform": {"kind": "supervisor", "url": dead, "program": "gone"}}
    replica.start()
    served = event(replica, "serving")
    assert served["listen"] == [f"127.0.0.1:{replica.port}"]
    assert served["console"] == f"http://127.0.0.1:{replica.port}"
    assert (served["store"], served["environment"], served["services"]) == ("sqlite", "default", 2)
    assert served["playbooks"] == {"auto": 1}
    assert served["version"]

    def unreachable() -> set[tuple[str, str]]:
        return {(item["what"], item["name"]) for item in events(replica) if item["event"] == "cannot be reached"}

    wanted = {("alertmanager", dead), ("prometheus", dead), ("platform", "gone"), ("channel", "ops")}
    until(lambda: unreachable() == wanted, "each is named once")
    assert all(item["reason"] for item in events(replica) if item["event"] == "cannot be reached")


def test_the_stop_names_what_is_in_flight(make_installation: MakeInstallation) -> None:
    """The log of the stop lists the runs that are in progress, and ends with a line of its own."""
    installation = make_installation(stubborn=0)
    replica = installation.replica()
    replica.start()
    assert replica.tell("target-0")
    until(lambda: bool(replica.runs()) and replica.runs()[0]["status"] == "running", "the restart is under way")
    os.kill(replica.pid, signal.SIGTERM)
    until(lambda: replica.ended, "it ends")
    stopping = event(replica, "stopping")
    assert [text.split(" (")[0] for text in stopping["in_flight"]] == ["target-down on target-0: running"]
    assert events(replica)[-1]["event"] == "stopped"


class Notified(CrashingRemediator):
    """A remediator that systemd started."""

    notify_socket: Path

    def environment(self) -> dict[str, str]:
        found: Mapping[str, str] = super().environment()
        return {**found, "NOTIFY_SOCKET": str(self.notify_socket), "WATCHDOG_USEC": "400000"}


def test_systemd_is_notified_of_the_start_each_heartbeat_and_the_stop(
    make_installation: MakeInstallation, tmp_path: Path
) -> None:
    """systemd gets READY with the address, WATCHDOG at intervals, and STOPPING."""
    installation = make_installation()
    replica = installation.replica()
    replica.__class__ = Notified
    assert isinstance(replica, Notified)
    replica.notify_socket = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(replica.notify_socket))
        receiver.settimeout(60)
        replica.launch()
        seen = [receiver.recv(4096).decode() for _ in range(4)]
        ready = next(text for text in seen if text.startswith("READY=1"))
        assert f"127.0.0.1:{replica.port}" in ready
        assert seen.count("WATCHDOG=1") >= 2
        os.kill(replica.pid, signal.SIGTERM)
        while seen[-1] != "STOPPING=1":
            seen.append(receiver.recv(4096).decode())
    until(lambda: replica.ended, "it ends")


def test_it_listens_on_several_addresses(make_installation: MakeInstallation, tmp_path: Path) -> None:
    """The service listens on two TCP addresses and a Unix socket, for example for a proxy on this host."""
    installation = make_installation()
    replica = installation.replica()
    other, path = free_port(), tmp_path / "remediator.sock"
    replica.settings["listen"] = [f"127.0.0.1:{replica.port}", f"127.0.0.1:{other}", f"unix:{path}"]
    replica.start()
    assert event(replica, "serving")["listen"] == replica.settings["listen"]
    for address in (("127.0.0.1", replica.port), ("127.0.0.1", other), str(path)):
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        with socket.socket(family) as opened:
            opened.settimeout(60)
            opened.connect(address)
            opened.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            assert opened.recv(4096).startswith(b"HTTP/1.1 200")


_ACTIVATE = """
import os, socket, sys
opened = socket.create_server(("127.0.0.1", int(sys.argv[1])))
if opened.fileno() != 3:
    os.dup2(opened.fileno(), 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
os.execv(sys.argv[2], sys.argv[2:])
"""


class Activated(CrashingRemediator):
    """A remediator whose socket its parent opens, as systemd does."""

    def command(self) -> list[str]:
        return [sys.executable, "-c", _ACTIVATE, str(self.port), *super().command()]


def test_it_serves_on_the_socket_that_systemd_opened(make_installation: MakeInstallation) -> None:
    """With ``listen: systemd``, the service accepts notifications on the socket that systemd passes to it."""
    installation = make_installation()
    replica = installation.replica(listen="systemd")
    replica.__class__ = Activated
    replica.start()
    assert event(replica, "serving")["listen"] == ["systemd"]
    assert replica.tell("target-0")


def test_without_sockets_of_systemd_the_start_is_refused(make_installation: MakeInstallation) -> None:
    """With ``listen: systemd`` and no socket from systemd, the start fails with one sentence and no traceback."""
    installation = make_installation()
    replica = installation.replica(listen="systemd")
    replica.launch()
    until(lambda: replica.ended, "it ends")
    assert "systemd gave no sockets to this process" in replica.log
    assert "Traceback" not in replica.log
