"""The real local stack starts, is scraped by Prometheus, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import socket

import pytest

from demo.probe import Probe
from demo.stack import orphaned_processes, processes
from demo.stack.__main__ import main
from demo.stack.settings import Settings, StackError, variable

pytestmark = pytest.mark.long


def environment(settings: Settings) -> dict[str, str]:
    ports = {variable(name): str(port) for name, port in vars(settings.ports).items()}
    return {"STATE": str(settings.state), **ports}


def test_the_stack_starts_and_stops(
    local_stack: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The stack starts, Prometheus scrapes it, and it stops even with a hung program. Repetition is harmless."""
    for name, value in environment(local_stack).items():
        monkeypatch.setenv(name, value)
    assert main(["up"]) == 0, capsys.readouterr().err
    assert main(["up"]) == 0
    probe = Probe(local_stack)

    processes.wait(probe.targets_up, "all targets are scraped", 90)
    processes.wait(probe.watchdog_heard, "the Watchdog reaches the remediator", 90)
    processes.wait(probe.traffic_flows, "requests are counted", 90)
    _prometheus_knows_what_supervisord_knows(probe, local_stack)

    before = probe.pid("remediator")
    assert main(["restart-remediator"]) == 0
    assert probe.pid("remediator") not in (0, before)
    assert main(["logs", "remediator"]) == 0
    assert main(["status"]) == 0
    assert "RUNNING" in capsys.readouterr().out

    probe.signal("redis", signal.SIGSTOP)
    assert main(["down"]) == 0
    assert main(["down"]) == 0
    assert orphaned_processes.find(local_stack) == []
    assert local_stack.ports.busy() == []
    assert main(["status"]) == 1


def _prometheus_knows_what_supervisord_knows(probe: Probe, settings: Settings) -> None:
    """Wait for the metric of AppCrashLoopBackOff, which Debian's node exporter reads from supervisord's socket."""
    programs = {process["name"] for process in processes.processes(settings) if process["statename"] == "RUNNING"}

    def seen() -> bool:
        found = probe.get(settings.ports.prometheus, "/api/v1/query?query=node_supervisord_up%3D%3D1")
        return {item["metric"]["name"] for item in found["data"]["result"]} == programs

    processes.wait(seen, "node_supervisord_up of every program", 90)


def test_a_program_that_does_not_run_gets_no_signal(local_stack: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stopped program has pid 0, which would signal the process group of the demonstration itself."""
    monkeypatch.setattr(processes.Supervisor, "info", lambda *_: {"pid": 0})
    monkeypatch.setattr(os, "kill", lambda *_: pytest.fail("a signal was sent"))
    with pytest.raises(StackError, match="redis does not run, so it gets no signal"):
        Probe(local_stack).signal("redis", signal.SIGKILL)


def test_programs_of_a_killed_supervisord_are_stopped(local_stack: Settings) -> None:
    """After kill -9 of supervisord its programs continue. ``down`` stops them, and ``up`` starts again."""
    processes.up(local_stack)
    os.kill(int((local_stack.state / "supervisord.pid").read_text()), signal.SIGKILL)
    processes.wait(lambda: not processes.running(local_stack), "supervisord is gone", 60)
    assert len(orphaned_processes.find(local_stack)) >= 9

    processes.down(local_stack)

    assert orphaned_processes.find(local_stack) == []
    assert local_stack.ports.busy() == []


def test_a_taken_port_stops_nothing_of_its_owner(local_stack: Settings) -> None:
    """The error names the variable with a working example, and nothing is started or stopped."""
    with (
        socket.create_server(("127.0.0.1", local_stack.ports.redis)),
        pytest.raises(StackError, match=f"REDIS_PORT={local_stack.ports.redis}.* for example: make up REDIS_PORT="),
    ):
        processes.up(local_stack)
    assert orphaned_processes.find(local_stack) == []
