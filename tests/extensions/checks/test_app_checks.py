"""``app.process`` on real processes, ``prometheus.target`` on a real Prometheus."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from demo import proc
from remediator.clients.endpoints import Endpoint
from remediator.clients.host import sockets
from remediator.clients.prometheus.client import Prometheus as Client
from remediator.extensions.checks.app_process import AppProcess
from remediator.extensions.checks.base import CheckAnswer, Evidence
from remediator.extensions.checks.prometheus_target import PrometheusTarget
from remediator.extensions.clientset import ClientSet
from remediator.playbooks.inventory import Service
from tests.support.action_runner import service
from tests.support.servers import free_port, until
from tests.support.servers.prometheus import Prometheus

_MASTER = """
import os, socket, sys, time
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
for _ in range(2):
    if os.fork() == 0:
        time.sleep(600)
        os._exit(0)
open(sys.argv[2], "w").write(str(os.getpid()))
time.sleep(600)
"""
"""A master with two workers that share its listening socket, like gunicorn."""


class App:
    """The processes of an app, and its entry in an inventory."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.pid_file = folder / "app.pid"
        self.process = subprocess.Popen(
            (sys.executable, "-c", _MASTER, str(self.port), str(self.pid_file)), start_new_session=True
        )
        until(lambda: self.pid_file.exists() and self.pid_file.read_text() != "", "the app has started")

    @property
    def workers(self) -> list[int]:
        """Return the process IDs of the workers."""
        return proc.children(self.process.pid)

    def stop(self) -> None:
        """End all processes."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def bound(self) -> Service:
        """Return a service that is bound to the app."""
        return service(
            "app", http={"url": f"http://127.0.0.1:{self.port}"}, app_server={"pid_file": str(self.pid_file)}
        )


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    started = App(tmp_path)
    yield started
    started.stop()


async def process(target: Service) -> Evidence:
    """Run app.process."""
    return await AppProcess(ClientSet()).ask(target, AppProcess.Parameters())


async def test_an_app_with_running_workers_is_ok(app: App) -> None:
    """If the app listens on its port and all workers run, the check is ok."""
    found = await process(app.bound())
    assert (found.answer, found.facts["ours"], found.facts["workers"]) == (CheckAnswer.OK, True, 2), found


async def test_a_stopped_worker_is_named_although_the_port_accepts(app: App) -> None:
    """If one of two workers is stopped, the check fails and names it, although the port accepts connections."""
    worker = app.workers[0]
    os.kill(worker, signal.SIGSTOP)
    until(lambda: "T (stopped)" in Path(f"/proc/{worker}/status").read_text(), "it is stopped")
    found = await process(app.bound())
    assert (found.answer, found.facts["stopped"]) == (CheckAnswer.FAIL, [worker])
    assert "1 of 2 workers" in found.summary


async def test_workers_without_file_descriptors_fail_the_check(app: App) -> None:
    """If a worker has used all its file descriptors, the check fails and reports 100 percent."""
    worker = app.workers[1]
    used = len(os.listdir(f"/proc/{worker}/fd"))
    resource.prlimit(worker, resource.RLIMIT_NOFILE, (used, used))
    found = await process(app.bound())
    assert (found.answer, found.facts["files_percent"]) == (CheckAnswer.FAIL, 100)


async def test_another_program_on_the_port_is_named(app: App) -> None:
    """If another program listens on the port of the app, the check fails and names its process."""
    target = app.bound()
    app.stop()
    other = subprocess.Popen((sys.executable, "-m", "http.server", str(app.port), "--bind", "127.0.0.1"))
    try:
        until(lambda: _listens(app.port), "the other program listens")
        found = await process(target)
    finally:
        other.kill()
        other.wait()
    assert (found.answer, found.facts["listens"], found.facts["ours"]) == (CheckAnswer.FAIL, True, False)
    assert str(other.pid) in found.facts["listener"]
    assert "another program" in found.summary


async def test_an_app_that_ended_fails_the_check(app: App) -> None:
    """If the app has ended, the check fails, because no process listens on its port."""
    target = app.bound()
    app.stop()
    found = await process(target)
    assert (found.answer, found.facts["listens"], found.facts["ours"]) == (CheckAnswer.FAIL, False, False)


async def test_processes_of_another_host_are_unknown(app: App) -> None:
    """For an app on another host, the answer is unknown, because its processes cannot be read here."""
    target = service("app", http={"url": "http://192.0.2.1:8000"}, app_server={"pid_file": str(app.pid_file)})
    assert (await process(target)).answer is CheckAnswer.UNKNOWN


async def target_of(prometheus: Prometheus, job: str, **parts: object) -> Evidence:
    """Run prometheus.target for a job."""
    client = Client(Endpoint(url=prometheus.url))
    try:
        check = PrometheusTarget(ClientSet(prometheus=client))
        return await check.ask(service("app", **parts), PrometheusTarget.Parameters(job=job))
    finally:
        await client.aclose()


async def test_a_wrong_scrape_address_is_shown_beside_that_of_the_inventory(
    make_prometheus: Callable[..., Prometheus],
) -> None:
    """If a target is down at an address that differs from the inventory, the check shows both. A missing job fails."""
    closed = free_port()
    configuration = (
        f"scrape_configs: [{{job_name: app, static_configs: [{{targets: ['127.0.0.1:{closed}']}}]}}, "
        "{job_name: self, static_configs: [{targets: [SELF]}]}]"
    )
    prometheus = make_prometheus(configuration=configuration)
    until(
        lambda: prometheus.query('up{job="self"} == 1') and prometheus.query('up{job="app"} == 0'), "both are scraped"
    )
    wrong = await target_of(prometheus, "app", http={"url": "http://127.0.0.1:8000"})
    assert (wrong.answer, wrong.facts["down"], wrong.facts["same_address"]) == (CheckAnswer.FAIL, 1, False)
    assert f"127.0.0.1:{closed}" in wrong.summary
    assert "the inventory has 127.0.0.1:8000" in wrong.summary
    assert (await target_of(prometheus, "self")).answer is CheckAnswer.OK
    missing = await target_of(prometheus, "no-such-job")
    assert (missing.answer, missing.facts["targets"]) == (CheckAnswer.FAIL, 0)


async def test_without_prometheus_the_targets_are_unknown() -> None:
    """Without Prometheus in the settings, the answer is unknown."""
    check = PrometheusTarget(ClientSet())
    assert (await check.ask(service("app"), PrometheusTarget.Parameters(job="app"))).answer is CheckAnswer.UNKNOWN


def _listens(port: int) -> bool:
    return bool(sockets.listeners(port))
