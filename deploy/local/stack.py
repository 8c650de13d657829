"""Starting, stopping and looking at the stack, through supervisord."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from xmlrpc.client import ServerProxy

from supervisor.xmlrpc import SupervisorTransport

from deploy.local import files, programs
from deploy.local.settings import Settings, StackError


def up(settings: Settings) -> None:
    """Start all of it and wait until it serves; nothing to do where it runs already.

    Raises:
        StackError: a program or port is missing, or something does not come up; the message says which.
    """
    if running(settings):
        return
    programs.ensure()
    busy = settings.ports.busy()
    if busy:
        raise StackError(
            f"These ports are taken: {', '.join(busy)}. Choose others, for example: {_example(busy[0])} make up"
        )
    files.write_all(settings)
    # supervisor 4 still imports pkg_resources, which warns about itself
    argv = [sys.executable, "-W", "ignore", "-m", "supervisor.supervisord", "-c", str(settings.supervisord_conf)]
    subprocess.run(argv, check=True, cwd=settings.state)
    wait(lambda: running(settings), "supervisord", 10)
    for name, url in health_urls(settings).items():
        wait(lambda url=url: _answers(url), name, 60, lambda name=name: _tail(settings, name))


def _example(busy: str) -> str:
    name, _, port = busy.partition("=")
    return f"{name}={int(port) + 1000}"


def health_urls(settings: Settings) -> dict[str, str]:
    """What has to answer before the stack is up."""
    ports = settings.ports
    return {
        "app": f"http://127.0.0.1:{ports.app}/readyz",
        "nginx": f"http://127.0.0.1:{ports.nginx}/livez",
        "redis-exporter": f"http://127.0.0.1:{ports.redis_exporter}/metrics",
        "node-exporter": f"http://127.0.0.1:{ports.node_exporter}/metrics",
        "prometheus": f"http://127.0.0.1:{ports.prometheus}/-/ready",
        "alertmanager": f"http://127.0.0.1:{ports.alertmanager}/-/ready",
        "remediator": f"http://127.0.0.1:{ports.remediator}/readyz",
    }


def wait(condition: Callable[[], bool], what: str, seconds: float, excuse: Callable[[], str] = str) -> None:
    """Wait until a condition holds.

    Raises:
        StackError: it did not in time.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise StackError(f"{what} did not come up within {seconds:.0f} s. {excuse()}".strip())
        time.sleep(0.1)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2):
            return True
    except (urllib.error.URLError, OSError):
        return False


def _tail(settings: Settings, name: str) -> str:
    log = settings.state / "logs" / f"{name}.log"
    lines = log.read_text(errors="replace").splitlines()[-5:] if log.exists() else []
    return f"The end of {log}:\n" + "\n".join(lines)


class Supervisor:
    """supervisord's XML-RPC interface, closed after each call."""

    def __init__(self, settings: Settings) -> None:
        self._socket = settings.supervisor_socket
        self._password = settings.state / "supervisor.password"

    def call(self, method: str, *arguments: object) -> object:
        """One call, such as ``getProcessInfo``."""
        transport = SupervisorTransport("remediator", self._password.read_text(), f"unix://{self._socket}")
        try:
            return getattr(ServerProxy("http://127.0.0.1", transport=transport).supervisor, method)(*arguments)
        finally:
            transport.close()

    def info(self, name: str) -> dict[str, object]:
        """What it says of a program."""
        found = self.call("getProcessInfo", name)
        assert isinstance(found, dict)
        return found


def forget(settings: Settings) -> None:
    """Begin anew: remove what an earlier stack in this folder wrote. Only where there was one, and it is stopped.

    Raises:
        StackError: it runs, or the folder is not a stack's.
    """
    if running(settings):
        raise StackError("the stack runs; 'make down' stops it")
    if settings.supervisord_conf.exists():
        shutil.rmtree(settings.state)


def running(settings: Settings) -> bool:
    """Whether this stack's supervisord answers."""
    if not settings.supervisor_socket.exists():
        return False
    try:
        Supervisor(settings).call("getState")
    except OSError:
        return False
    return True


def down(settings: Settings) -> None:
    """Stop all of it, and see that nothing is left."""
    if not running(settings):
        return
    pid = int((settings.state / "supervisord.pid").read_text())
    pids = [int(str(process["pid"])) for process in processes(settings) if process["pid"]]
    for stopped in pids:
        _signal(stopped, signal.SIGCONT)  # a fault may have left one stopped
    Supervisor(settings).call("shutdown")
    deadline = time.monotonic() + 60
    while _alive(pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    left = [each for each in (pid, *pids) if _alive(each)]
    for each in left:
        _signal(each, signal.SIGKILL)


def processes(settings: Settings) -> list[dict[str, object]]:
    """What supervisord says of each program."""
    found = Supervisor(settings).call("getAllProcessInfo")
    assert isinstance(found, list)
    return found


def _alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
