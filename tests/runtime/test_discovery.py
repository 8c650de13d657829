"""Discovery on a real service: targets appear, are healed and disappear; a failed source changes nothing."""

from __future__ import annotations

import copy
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xmlrpc.client import ServerProxy

import pytest
import yaml

from demo.http_server import QuietHandler, serve
from tests.support import commands
from tests.support.servers import until
from tests.support.servers.receivers import Receiver, receiver
from tests.support.servers.remediator import PLAYBOOK, Remediator
from tests.support.servers.supervisord import Supervisord

PROGRAMS = ("w1", "w2", "w3", "stranger")


class Fleet:
    """Programs under supervisord, a file that lists some of them, and a remediator that discovers them."""

    def __init__(self, folder: Path, chat: Receiver) -> None:
        self.supervisord = Supervisord(folder / "supervisord")
        for name in PROGRAMS:
            self.supervisord.program(name, "sleep 1000")
        self.targets = folder / "targets.json"
        self.remediator = Remediator(folder / "remediator")
        self.remediator.playbooks = [self.playbook("auto")]
        self.remediator.settings["channels"] = {"chat": {"kind": "webhook", "url": chat.url}}
        self.remediator.settings["watchdog"] = {"notify": ["chat"]}
        reason = "these tests have no Alertmanager"
        self.remediator.settings["guards"]["off"].append({"guard": "still_firing", "reason": reason})
        self.remediator.inventory |= {"defaults": {"owner": "chat"}, "discover": {"workers": self.discovery()}}

    def discovery(self) -> dict[str, Any]:
        """Return the discovery of the workers."""
        return {
            "kind": "file_sd",
            "files": [str(self.targets)],
            "refresh": "1s",
            "name": "${__host__}",
            "allow": {"names": ["w*"], "labels": {"__host__": ["w*"], "team": ["shop"]}, "targets": 5},
            "template": {
                "platform": {"kind": "supervisor", "url": self.supervisord.url, "program": "${__host__}"},
                "alerts_as": {"worker": "${__host__}"},
            },
        }

    @staticmethod
    def playbook(mode: str) -> dict[str, Any]:
        """Return a playbook whose target comes from the alert."""
        changed = {
            "name": "worker-down",
            "match": {"alertname": "WorkerDown"},
            "mode": mode,
            "parameters": {"worker": {"type": "service", "label": "worker"}},
            "target": "${worker}",
            "diagnose": [{"id": "running", "check": "service.running"}],
            "conclude": [{"id": "down", "when": 'evidence.running.status == "fail"', "cause": "It does not run."}],
            "verify": {"settle": "100ms", "within": "20s", "checks": [{"check": "service.running"}]},
            "escalate": {"to": ["chat"]},
        }
        return copy.deepcopy(PLAYBOOK) | changed

    def write(self, *hosts: str, **labels: str) -> None:
        """Replace the file by a new one with these hosts, as a tool does."""
        groups = [{"targets": [f"{host}:9100" for host in hosts], "labels": {"team": "shop", **labels}}]
        new = self.targets.with_suffix(".new")
        new.write_text(json.dumps(groups))
        new.rename(self.targets)

    def running(self, program: str) -> bool:
        """Return whether supervisord runs a program."""
        with ServerProxy(f"http://operator:opensesame@127.0.0.1:{self.supervisord.port}/RPC2") as proxy:
            state: Any = proxy.supervisor.getProcessInfo(program)
        return bool(state["statename"] == "RUNNING")

    def services(self) -> set[str]:
        """Return the active services, from the API."""
        return {item["name"] for item in self.remediator.get("/api/v1/inventory")}

    def until_services(self, *names: str) -> None:
        """Wait until exactly these services are active."""
        try:
            until(lambda: self.services() == set(names), f"the services are {names}")
        except AssertionError as error:
            raise AssertionError(f"{error}; they are {self.services()}\n{self.remediator.log}") from None

    def alert(self, worker: str, status: str = "firing") -> None:
        """Send the alert that a worker is down."""
        body = self.remediator.notification(status, alertname="WorkerDown", worker=worker)
        assert self.remediator.post(body)[0] == 200

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command of the group ``inventory``."""
        return commands.remediator("inventory", *arguments, "--config", str(self.remediator.config))


@pytest.fixture
def chat() -> Iterator[Receiver]:
    """Receive the messages of the chat."""
    with receiver() as made:
        yield made


@pytest.fixture
def fleet(tmp_path: Path, chat: Receiver) -> Iterator[Fleet]:
    """Return three workers with a remediator that the test starts."""
    made = Fleet(tmp_path, chat)
    made.write("w1", "w2", "w3")
    try:
        made.supervisord.start()
        yield made
    finally:
        made.remediator.stop()
        made.supervisord.stop()


def notified(chat: Receiver, text: str) -> int:
    """Return the number of messages with this text."""
    return sum(text.encode() in item.body for item in chat.received)


@pytest.mark.long
@pytest.mark.promise(8)
def test_only_discovered_targets_are_changed(fleet: Fleet, chat: Receiver) -> None:
    """An alert about a worker starts it. An alert about a program outside of the set is escalated."""
    fleet.remediator.start()
    fleet.until_services("w1", "w2", "w3")

    fleet.alert("w2")
    run = fleet.remediator.wait_for("succeeded")

    assert run["target"] == "w2" and fleet.running("w2")
    fleet.alert("stranger")
    assert fleet.remediator.wait_for("escalated")["target"] != "stranger"
    assert not any(fleet.running(name) for name in ("w1", "w3", "stranger")), "nothing else was started"
    assert fleet.remediator.audit_has("discovery.changed")

    listed = fleet.command("list").stdout
    assert "w2" in listed and "workers" in listed and "discovery workers: 3 services" in listed
    shown = fleet.command("show", "w2").stdout
    assert "discovered by workers" in shown
    assert "platform.program: \"w2\"  (template, __host__='w2')" in shown
    assert 'owner: "chat"  (defaults)' in shown
    fleet.remediator.stop()
    fleet.write("w1", "w2", "w3", "w4", "bad")
    diff = fleet.command("diff")
    assert diff.returncode == 0 and "+ w4" in diff.stdout and "__host__='bad' is not allowed" in diff.stdout
    fleet.remediator.start()
    fleet.until_services("w1", "w2", "w3", "w4")
    until(lambda: notified(chat, "left out"), "people are notified of the target that is left out")


@pytest.mark.long
def test_the_loss_of_half_the_targets_changes_nothing_and_survives_a_restart(fleet: Fleet, chat: Receiver) -> None:
    """The last valid set stays, people are notified once, and a restart without the source changes nothing."""
    fleet.remediator.start()
    fleet.until_services("w1", "w2", "w3")

    fleet.write("w1")
    until(lambda: notified(chat, "would remove 2 of 3 services"), "people are notified")
    assert fleet.services() == {"w1", "w2", "w3"}
    assert fleet.command("diff").returncode == 1
    assert fleet.remediator.audit_has("discovery.refused")

    fleet.targets.unlink()
    until(lambda: notified(chat, "no such file"), "people are notified of the missing file")
    fleet.remediator.stop()
    fleet.remediator.start()
    assert fleet.services() == {"w1", "w2", "w3"}, "the set is in the store"
    fleet.alert("w3")
    assert fleet.remediator.wait_for("succeeded")["target"] == "w3"

    fleet.write("w1", "w2")
    fleet.until_services("w1", "w2")
    until(lambda: notified(chat, "works again"), "people are notified of the end")
    assert notified(chat, "would remove") == 1, "once, not at every look-up"


@pytest.mark.long
@pytest.mark.promise(8)
def test_a_run_ends_when_its_target_leaves_the_set(fleet: Fleet) -> None:
    """A run that waits for an approval is escalated, and nothing is done on the target."""
    fleet.remediator.playbooks = [fleet.playbook("approve")]
    fleet.remediator.start()
    fleet.until_services("w1", "w2", "w3")
    fleet.alert("w1")
    fleet.remediator.wait_for("awaiting_approval")

    fleet.write("w2", "w3")

    assert fleet.remediator.wait_for("escalated")["reason"] == "target_gone"
    assert not fleet.running("w1")


@pytest.mark.long
def test_targets_of_a_real_http_server(fleet: Fleet, chat: Receiver) -> None:
    """The set follows the server; an invalid answer and too many targets change nothing."""

    served: dict[str, Any] = {"status": 200, "hosts": ["w1", "w2"]}

    class Source(QuietHandler):
        def do_GET(self) -> None:
            groups = [{"targets": served["hosts"], "labels": {"team": "shop"}}]
            body = json.dumps(groups).encode() if self.path == "/targets" else b"[]"
            self.send_response(served["status"])
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    with serve(Source) as url:
        discovery = {**fleet.discovery(), "kind": "http_sd", "server": {"url": f"{url}/targets"}}
        del discovery["files"]
        fleet.remediator.inventory["discover"] = {"workers": discovery}
        fleet.remediator.start()
        fleet.until_services("w1", "w2")
        served["status"] = 500
        until(lambda: notified(chat, "answered 500"), "the failure is reported")
        served |= {"status": 200, "hosts": [f"w{number}" for number in range(6)]}
        until(lambda: notified(chat, "6 targets, and allow.targets is 5"), "the limit is reported")
        assert fleet.services() == {"w1", "w2"}
        served["hosts"] = ["w1", "w2", "w3"]
        fleet.until_services("w1", "w2", "w3")


@pytest.mark.long
def test_a_narrower_allow_list_is_obeyed_at_once(fleet: Fleet) -> None:
    """After a reload, a target that the inventory no longer allows is not a service any more, even before the next
    discovery."""
    fleet.remediator.inventory["discover"]["workers"]["refresh"] = "1h"
    fleet.remediator.start()
    fleet.until_services("w1", "w2", "w3")
    fleet.remediator.inventory["discover"]["workers"]["allow"]["labels"]["__host__"] = ["w1", "w3"]

    (fleet.remediator.folder / "inventory.yaml").write_text(yaml.safe_dump(fleet.remediator.inventory))

    fleet.until_services("w1", "w3")
    assert "__host__='w2' is not allowed" in fleet.command("list").stdout
    argv = ("playbook", "trigger", "worker-down", "--label", "worker=w3", "--config", str(fleet.remediator.config))
    rehearsed = commands.remediator(*argv)
    assert "w3" in rehearsed.stdout and "unknown service" not in rehearsed.stdout, rehearsed


@pytest.mark.long
def test_replicas_use_the_same_targets(fleet: Fleet, tmp_path: Path, migrated_url: str) -> None:
    """One replica at a time discovers targets; if it stops, another one continues."""
    second = Remediator(tmp_path / "second")
    for replica in (fleet.remediator, second):
        replica.settings |= {"store": migrated_url, "replica": replica.folder.name}
    second.playbooks, second.inventory = fleet.remediator.playbooks, fleet.remediator.inventory
    second.settings |= {key: fleet.remediator.settings[key] for key in ("channels", "watchdog", "guards")}

    def services() -> list[set[str]]:
        return [{item["name"] for item in each.get("/api/v1/inventory")} for each in (fleet.remediator, second)]

    try:
        fleet.remediator.start()
        second.start()
        until(lambda: services() == [{"w1", "w2", "w3"}] * 2, "both have the targets")
        fleet.write("w1", "w2", "w3", "w4")
        until(lambda: services() == [{"w1", "w2", "w3", "w4"}] * 2, "both have the new target")
        fleet.remediator.kill()
        fleet.write("w1", "w2", "w3", "w4", "w5")
        until(lambda: "w5" in {item["name"] for item in second.get("/api/v1/inventory")}, "the other one goes on")
    finally:
        second.stop()
