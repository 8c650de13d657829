"""Start, stop and inspect the stack through supervisord."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Collection, Iterator
from functools import partial
from typing import Any
from xmlrpc.client import ServerProxy

from supervisor.xmlrpc import SupervisorTransport

from demo.stack import files, orphaned_processes, programs, volume
from demo.stack.settings import Settings, StackError, listens

PATIENCE = 120.0
"""Timeout in seconds for the answer of each program, long for a busy machine."""

PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "PYTHONPATH")
"""Variables that the programs inherit. Others, such as REDIS_PASSWORD_FILE or a proxy, must not change the stack."""


def up(settings: Settings, without_alerts: Collection[str] = ()) -> None:
    """Start the stack and wait until it serves. If it already runs, only wait. After a failure nothing is left.

    Args:
        settings: the stack.
        without_alerts: names of alerts to leave out of the rules.

    Raises:
        StackError: a program or port is missing, or a program does not start. The message names it.
    """
    if running(settings):
        _wait_until_it_serves(settings)
        return
    programs.ensure()
    _stop_leftovers(settings)
    busy = settings.ports.busy()
    if busy:
        name, _, port = busy[0].partition("=")
        raise StackError(
            f"These ports are taken: {', '.join(busy)}. Choose others, for example: make up {name}={int(port) + 1000}"
        )
    volume.mount(settings)
    files.write_all(settings, without_alerts)
    try:
        _start(settings)
        _wait_until_it_serves(settings)
    except BaseException:
        down(settings)
        raise


def _start(settings: Settings) -> None:
    # supervisor 4 imports pkg_resources, which prints a warning about itself
    argv = [sys.executable, "-W", "ignore", "-m", "supervisor.supervisord", "-c", str(settings.supervisord_conf)]
    environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    started = subprocess.run(argv, check=False, cwd=settings.state, env=environment, capture_output=True, text=True)
    if started.returncode:
        raise StackError(f"supervisord does not start: {(started.stderr or started.stdout).strip()}")
    wait(lambda: running(settings), "supervisord", PATIENCE)


def _wait_until_it_serves(settings: Settings) -> None:
    for name, url in health_urls(settings).items():
        wait(partial(_answers, url), name, PATIENCE, partial(tail, settings, name))


def health_urls(settings: Settings) -> dict[str, str]:
    """Return the URLs that must answer before the stack is up."""
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
        StackError: the condition did not hold in time.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise StackError(f"{what}: waited {seconds:.0f} s for it in vain. {excuse()}".strip())
        time.sleep(0.1)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2):
            return True
    except (urllib.error.URLError, OSError):
        return False


def tail(settings: Settings, name: str, lines: int = 5) -> str:
    """Return the end of a program's log, with its path."""
    log = settings.state / "logs" / f"{name}.log"
    end = log.read_text(errors="replace").splitlines()[-lines:] if log.exists() else []
    return f"The end of {log}:\n" + "\n".join(end)


class Supervisor:
    """The XML-RPC interface of supervisord, which is closed after each call."""

    def __init__(self, settings: Settings) -> None:
        self._url = settings.supervisor_url

    def call(self, method: str, *arguments: object) -> Any:
        """Make one call, such as ``getProcessInfo``."""
        transport = SupervisorTransport(None, None, self._url)
        try:
            return getattr(ServerProxy("http://127.0.0.1", transport=transport).supervisor, method)(*arguments)
        finally:
            transport.close()

    def info(self, name: str) -> dict[str, Any]:
        """Return what supervisord reports about a program."""
        found: dict[str, Any] = self.call("getProcessInfo", name)
        return found


def running(settings: Settings) -> bool:
    """Return whether the supervisord of this stack answers."""
    if not listens(settings.supervisor_socket):
        return False
    try:
        Supervisor(settings).call("getState")
    except OSError:
        return False
    return True


def processes(settings: Settings) -> list[dict[str, Any]]:
    """Return what supervisord reports about each program."""
    found: list[dict[str, Any]] = Supervisor(settings).call("getAllProcessInfo")
    return found


def restart(settings: Settings, name: str) -> None:
    """Stop a program, start it, and wait until it serves."""
    supervisor = Supervisor(settings)
    if supervisor.info(name)["pid"]:
        supervisor.call("stopProcess", name)
    supervisor.call("startProcess", name)
    _wait_until_it_serves(settings)


def down(settings: Settings) -> None:
    """Stop all programs, in order if supervisord answers, and check that none is left.

    Raises:
        StackError: a process cannot be killed.
    """
    orphaned_processes.send(orphaned_processes.find(settings), signal.SIGCONT)  # a fault may leave a process stopped
    if running(settings):
        Supervisor(settings).call("shutdown")
        for _ in _until(PATIENCE):
            if not orphaned_processes.find(settings):
                break
    _stop_leftovers(settings)
    volume.unmount(settings)


def _stop_leftovers(settings: Settings) -> None:
    for _ in _until(10):
        left = orphaned_processes.find(settings)
        if not left:
            return
        orphaned_processes.send(left, signal.SIGKILL)
    raise StackError(f"These processes of the stack cannot be stopped: {', '.join(map(str, left))}.")


def _until(seconds: float) -> Iterator[None]:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        yield
        time.sleep(0.1)


def forget(settings: Settings) -> None:
    """Remove the files of an earlier stack in this folder. Secrets stay.

    Raises:
        StackError: the stack runs.
    """
    if running(settings):
        raise StackError("the stack runs; 'make down' stops it")
    if settings.ports_file.exists():
        volume.forget(settings)
        for folder in files.FOLDERS:
            shutil.rmtree(settings.state / folder, ignore_errors=True)
