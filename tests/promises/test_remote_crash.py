"""If the remediator is killed while another host executes its call, the next process observes and repeats nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from demo.fleet.broken_link import Link
from demo.fleet.simulated_hosts import SimulatedHosts
from tests.support.servers import until
from tests.support.servers.remediator import Remediator
from tests.support.servers.ssh_hosts import UNIT

pytestmark = [pytest.mark.promise(3), pytest.mark.long]

PLAYBOOK: dict[str, Any] = {
    "apiVersion": "remediator/v1",
    "kind": "Playbook",
    "name": "web-failed",
    "match": {"alertname": "WebFailed"},
    "mode": "auto",
    "target": "web-1",
    "diagnose": [{"id": "status", "action": "service.status"}],
    "conclude": [{"id": "failed", "when": 'evidence.status.facts.state == "exited"', "cause": "The unit failed."}],
    "steps": [{"id": "restart", "action": "service.restart", "for": "failed"}],
    "verify": {"settle": "100ms", "within": "20s", "checks": [{"check": "service.running"}]},
    "escalate": {"to": ["infrastructure"], "message": "still down"},
}


@pytest.fixture
def remediator(tmp_path: Path, hosts: SimulatedHosts) -> Iterator[Remediator]:
    """Return a remediator for the first host, whose unit has failed."""
    made = Remediator(tmp_path / "remediator")
    made.playbooks = [PLAYBOOK]
    made.settings["guards"]["off"].append({"guard": "still_firing", "reason": "no Alertmanager here"})
    platform = {"kind": "systemd", "unit": UNIT}
    made.inventory["defaults"] = {"ssh": hosts.ssh}
    made.inventory["services"] = {"web-1": {"platform": platform, "host": hosts.host("web-1")}}
    hosts.fail("web-1", UNIT)
    yield made
    made.stop()


def test_a_failed_remote_unit_is_restarted_once(remediator: Remediator, hosts: SimulatedHosts) -> None:
    """A failed unit on another host is restarted once, and the run succeeds."""
    remediator.start()
    remediator.post(remediator.notification("firing", alertname="WebFailed", service="web-1"))

    remediator.wait_for("succeeded")
    assert hosts.calls("web-1") == [f"begun {UNIT}", f"done {UNIT}"]


def test_killed_during_a_call(remediator: Remediator, hosts: SimulatedHosts) -> None:
    """The host finishes the call. The next process finds the marker and the unit, and proves success."""
    hold = hosts.place("web-1") / "hold"
    hold.touch()
    remediator.start()
    remediator.post(remediator.notification("firing", alertname="WebFailed", service="web-1"))
    until(lambda: bool(hosts.calls("web-1")), "the restart began")
    remediator.kill()
    hold.unlink()
    until(lambda: len(hosts.calls("web-1")) == 2, "the host has ended it")
    remediator.start()

    remediator.wait_for("succeeded")
    assert hosts.calls("web-1") == [f"begun {UNIT}", f"done {UNIT}"]
    assert [name.rpartition(".")[2] for name in hosts.markers("web-1")] == ["0", "closed"]


@pytest.fixture
def link(remediator: Remediator, hosts: SimulatedHosts) -> Iterator[Link]:
    """Return the first host behind a link that can be cut."""
    here, there = "127.79.0.1", hosts.host("web-1")["address"]
    key = hosts.host_key.with_suffix(".pub").read_text()
    with hosts.known_hosts.open("a") as known:
        known.write(f"[{here}]:{hosts.port} {key}")
    remediator.inventory["services"]["web-1"]["host"] = {"address": here}
    with Link((here, hosts.port), (there, hosts.port)) as made:
        yield made


def _cut_in_mid_call(remediator: Remediator, hosts: SimulatedHosts, link: Link) -> None:
    hold = hosts.place("web-1") / "hold"
    hold.touch()
    remediator.start()
    remediator.post(remediator.notification("firing", alertname="WebFailed", service="web-1"))
    until(lambda: bool(hosts.calls("web-1")), "the restart began")
    link.cut()
    hold.unlink()
    remediator.wait_for("unknown_outcome")


def test_a_host_that_is_cut_off_and_returns_is_asked_again(
    remediator: Remediator, hosts: SimulatedHosts, link: Link
) -> None:
    """The host is asked again until it answers that it made the call, and nothing is repeated."""
    _cut_in_mid_call(remediator, hosts, link)
    run = remediator.runs()[0]["id"]
    until(lambda: "cannot be reached" in str(remediator.get(f"/api/v1/runs/{run}")), "the host cannot be asked")
    link.repair()

    remediator.wait_for("succeeded")
    assert hosts.calls("web-1") == [f"begun {UNIT}", f"done {UNIT}"]


def test_a_host_that_stays_cut_off_is_escalated(remediator: Remediator, hosts: SimulatedHosts, link: Link) -> None:
    """After some time, people are notified that the outcome is unknown and why. Nothing is repeated."""
    remediator.playbooks = [{**PLAYBOOK, "steps": [{**PLAYBOOK["steps"][0], "timeout": "5s"}]}]
    remediator.settings["timing"]["observe_within"] = "1s"
    _cut_in_mid_call(remediator, hosts, link)

    run = remediator.wait_for("escalated")
    assert "outcome_unknown" in str(run)
    assert hosts.calls("web-1") == [f"begun {UNIT}", f"done {UNIT}"]
