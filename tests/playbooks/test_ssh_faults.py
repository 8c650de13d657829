"""Real faults on hosts behind real sshd, which discovery found, judged by the cookbook's playbooks.

Prometheus evaluates the rule of the recipe, Alertmanager sends the alert, and the remediator acts by SSH. Each test
makes a fault, and states the cause that must be named, what follows on which host, and what must not happen.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.servers import until
from tests.support.servers.recipe import causes, lines
from tests.support.servers.ssh_fleet import FAR, STRANGER, SshFleet

pytestmark = [pytest.mark.process, pytest.mark.long, pytest.mark.timeout(300)]

UNIT, OTHER = "importer.service", "cron.service"
METRIC = "node_systemd_unit_state"
ONCE = [f"begun {UNIT}", f"done {UNIT}"]


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[SshFleet]:
    """Hosts with two units, of which the inventory has one."""
    made = SshFleet(tmp_path, "systemd-service-failed", (UNIT, OTHER))

    def series(host: str) -> str:
        """Return the states of the units, as the node exporter's systemd collector names them."""
        states = [(unit, state, made.state(host, unit)) for unit in (UNIT, OTHER) for state in ("active", "failed")]
        return lines([(METRIC, {"name": unit, "state": state}, now == state) for unit, state, now in states])

    made.series = series
    with made.running():
        yield made


@pytest.mark.promise(7)
def test_a_failed_unit_is_restarted_on_its_host(fleet: SshFleet) -> None:
    """Once, by the record of the host; and it is active, as Prometheus says too. No other host is touched."""
    fleet.fail("web-2", UNIT)
    run = fleet.run("importer-web-2")
    assert (causes(run), run["status"]) == ({"failed"}, "succeeded"), str(run)
    assert fleet.restarts() == {"web-2": ONCE}
    assert fleet.state("web-2", UNIT) == "active"
    proofs = {item["name"] for item in run["evidence"] if item["phase"] == "verify" and item["status"] == "ok"}
    assert proofs >= {"service.running", "promql"}, str(run)


def test_a_unit_that_stays_failed_is_escalated(fleet: SshFleet) -> None:
    """The restart does not help. It is not repeated, although the alert goes on."""
    (fleet.place("web-1") / f"{UNIT}.broken").touch()
    fleet.fail("web-1", UNIT)
    run = fleet.run("importer-web-1", "escalated", "failed")
    assert causes(run) >= {"failed"}, str(run)
    assert fleet.restarts() == {"web-1": ONCE}


@pytest.mark.parametrize(
    "state",
    [
        {"active": "activating", "sub": "auto-restart", "result": "exit-code"},
        {"active": "failed", "sub": "failed", "result": "start-limit-hit"},
    ],
    ids=["loops", "given up"],
)
def test_a_crash_loop_is_named_and_not_restarted(fleet: SshFleet, state: dict[str, str]) -> None:
    """Neither while systemd starts it again and again, nor after it has given up."""
    fleet.fail("web-1", UNIT, **state)
    if state["active"] != "failed":  # Prometheus saw it between two starts
        labels = {"host": "web-1", "instance": f"{fleet.hosts['web-1']}:9100", "name": UNIT, "state": "failed"}
        fleet.alertmanager.fire(alertname="NodeSystemdServiceFailed", service="importer-web-1", **labels)
    run = fleet.run("importer-web-1")
    assert (causes(run), run["status"]) == ({"crash-loop"}, "escalated"), str(run)
    assert fleet.restarts() == {}


@pytest.mark.promise(3)
def test_a_host_that_is_cut_off_in_mid_restart_is_not_healed_until_it_says_so(fleet: SshFleet) -> None:
    """Its alert ends, because nothing is scraped any more. That proves nothing, and nothing is done twice."""
    hold = fleet.place(FAR) / "hold"
    hold.touch()
    fleet.fail(FAR, UNIT)
    until(lambda: fleet.restarts() == {FAR: ONCE[:1]}, "the restart has begun", 90)
    fleet.link.cut()
    fleet.silent.add(FAR)
    hold.unlink()
    until(lambda: fleet.state(FAR, UNIT) == "active", "the host has finished its restart")
    until(lambda: fleet.alertmanager.get("/api/v2/alerts") == [], "the alert has ended")
    [run] = fleet.remediator.runs()
    path = f"/api/v1/runs/{run['id']}"
    until(lambda: "cannot be reached" in fleet.remediator.text(path), "the host was asked what it has done", 90)
    assert fleet.remediator.get(path)["status"] not in ("succeeded", "cancelled")
    fleet.link.repair()
    fleet.silent.clear()
    assert fleet.run(f"importer-{FAR}", seconds=120)["status"] == "succeeded"
    assert fleet.restarts() == {FAR: ONCE}


def test_a_host_that_cannot_be_reached_is_escalated(fleet: SshFleet) -> None:
    """Its unit has failed, but the remediator cannot see that; so it does nothing, and nothing counts as healed."""
    fleet.link.cut()
    fleet.fail(FAR, UNIT)
    run = fleet.run(f"importer-{FAR}")
    assert (causes(run), run["status"]) == (set(), "escalated"), str(run)
    assert fleet.restarts() == {}
    assert fleet.state(FAR, UNIT) == "failed"


@pytest.mark.promise(8)
@pytest.mark.parametrize(("host", "unit"), [(STRANGER, UNIT), ("web-1", OTHER)])
def test_what_was_not_discovered_is_escalated(fleet: SshFleet, host: str, unit: str) -> None:
    """A host outside of the allow-list, and another unit: SSH would reach both, and nothing is done on either."""
    fleet.fail(host, unit)
    wanted, found = f"{unit.removesuffix('.service')}-{host}", fleet.escalated()
    assert f"service='{wanted}' is not a service of the inventory" in found, found
    assert fleet.restarts() == {}
    assert fleet.state(host, unit) == "failed"


@pytest.mark.promise(8)
def test_an_alert_whose_labels_name_two_hosts_is_escalated(fleet: SshFleet) -> None:
    """The label that names the service and the instance contradict each other: neither host is touched."""
    labels = {"host": "web-2", "instance": f"{fleet.hosts['web-2']}:9100", "name": UNIT, "state": "failed"}
    fleet.alertmanager.fire(alertname="NodeSystemdServiceFailed", service="importer-web-1", **labels)
    run = fleet.run("importer-web-1")
    assert (run["status"], run["reason"]) == ("escalated", "not_about_target"), str(run)
    assert fleet.restarts() == {}


def test_a_host_allows_less_than_the_inventory(fleet: SshFleet) -> None:
    """Its own allow-list has the last word: no restart, and the reason is in the escalation."""
    fleet.simulated["web-3"].allow("web-3", units={UNIT: ["status", "logs"]})
    fleet.fail("web-3", UNIT)
    run = fleet.run("importer-web-3")
    assert (causes(run), run["status"]) == ({"failed"}, "escalated"), str(run)
    assert "does not allow" in repr(run), str(run)
    assert fleet.restarts() == {}
