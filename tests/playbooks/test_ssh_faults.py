"""Real faults on discovered hosts behind real sshd, handled by the playbooks of the cookbook.

Prometheus evaluates the rule of the recipe, Alertmanager sends the alert, and remediator acts by SSH. Each test causes
a fault, and asserts the cause, the reaction on each host, and effects that must not happen.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.servers import until
from tests.support.servers.recipe import causes, lines
from tests.support.servers.ssh_fleet import FAR, STRANGER, SshFleet

pytestmark = [pytest.mark.process, pytest.mark.long]

UNIT, OTHER = "importer.service", "cron.service"
METRIC = "node_systemd_unit_state"
ONCE = [f"begun {UNIT}", f"done {UNIT}"]


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[SshFleet]:
    """Return hosts with two units; the inventory has only one of the units."""
    made = SshFleet(tmp_path, "systemd-service-failed", (UNIT, OTHER))

    def series(host: str) -> str:
        """Return the states of the units, as the systemd collector of node exporter does."""
        states = [(unit, state, made.state(host, unit)) for unit in (UNIT, OTHER) for state in ("active", "failed")]
        return lines([(METRIC, {"name": unit, "state": state}, now == state) for unit, state, now in states])

    made.series = series
    with made.running():
        yield made


@pytest.mark.promise(7)
def test_a_failed_unit_is_restarted_on_its_host(fleet: SshFleet) -> None:
    """The unit is restarted once, and both systemd and Prometheus report it as active. No other host changes."""
    fleet.fail("web-2", UNIT)
    run = fleet.run("importer-web-2")
    assert (causes(run), run["status"]) == ({"failed"}, "succeeded"), str(run)
    assert fleet.restarts() == {"web-2": ONCE}
    assert fleet.state("web-2", UNIT) == "active"
    proofs = {item["name"] for item in run["evidence"] if item["phase"] == "verify" and item["status"] == "ok"}
    assert proofs >= {"service.running", "promql"}, str(run)


def test_a_unit_that_stays_failed_is_escalated(fleet: SshFleet) -> None:
    """The restart does not help and is not repeated, although the alert continues."""
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
    """The unit is not restarted, neither while systemd starts it again and again, nor after systemd has given up."""
    fleet.fail("web-1", UNIT, **state)
    if state["active"] != "failed":  # Prometheus scraped the unit between two starts
        labels = {"host": "web-1", "instance": f"{fleet.hosts['web-1']}:9100", "name": UNIT, "state": "failed"}
        fleet.alertmanager.fire(alertname="NodeSystemdServiceFailed", service="importer-web-1", **labels)
    run = fleet.run("importer-web-1")
    assert (causes(run), run["status"]) == ({"crash-loop"}, "escalated"), str(run)
    assert fleet.restarts() == {}


@pytest.mark.promise(3)
def test_a_host_cut_off_during_a_restart_succeeds_only_after_its_confirmation(fleet: SshFleet) -> None:
    """The alert ends because the host is not scraped any more. The run succeeds only after the host has confirmed the
    restart, which is not repeated."""
    hold = fleet.place(FAR) / "hold"
    hold.touch()
    fleet.fail(FAR, UNIT)
    until(lambda: fleet.restarts() == {FAR: ONCE[:1]}, "the restart has begun")
    fleet.link.cut()
    fleet.silent.add(FAR)
    hold.unlink()
    until(lambda: fleet.state(FAR, UNIT) == "active", "the host has finished its restart")
    until(lambda: fleet.alertmanager.get("/api/v2/alerts") == [], "the alert has ended")
    [run] = fleet.remediator.runs()
    path = f"/api/v1/runs/{run['id']}"
    until(lambda: "cannot be reached" in fleet.remediator.text(path), "the host was asked what it has done")
    assert fleet.remediator.get(path)["status"] not in ("succeeded", "cancelled")
    fleet.link.repair()
    fleet.silent.clear()
    assert fleet.run(f"importer-{FAR}", seconds=120)["status"] == "succeeded"
    assert fleet.restarts() == {FAR: ONCE}


def test_a_host_that_cannot_be_reached_is_escalated(fleet: SshFleet) -> None:
    """remediator cannot see the failed unit, so it changes nothing, and the run does not count as healed."""
    fleet.link.cut()
    fleet.fail(FAR, UNIT)
    run = fleet.run(f"importer-{FAR}")
    assert (causes(run), run["status"]) == (set(), "escalated"), str(run)
    assert fleet.restarts() == {}
    assert fleet.state(FAR, UNIT) == "failed"


@pytest.mark.promise(8)
@pytest.mark.parametrize(("host", "unit"), [(STRANGER, UNIT), ("web-1", OTHER)])
def test_what_was_not_discovered_is_escalated(fleet: SshFleet, host: str, unit: str) -> None:
    """A host outside of the allow-list and another unit are not changed, although SSH would reach both."""
    fleet.fail(host, unit)
    wanted, found = f"{unit.removesuffix('.service')}-{host}", fleet.escalated()
    assert f"service='{wanted}' is not a service of the inventory" in found, found
    assert fleet.restarts() == {}
    assert fleet.state(host, unit) == "failed"


@pytest.mark.promise(8)
def test_an_alert_whose_labels_name_two_hosts_is_escalated(fleet: SshFleet) -> None:
    """The labels for the service and the instance contradict each other: neither host is changed."""
    labels = {"host": "web-2", "instance": f"{fleet.hosts['web-2']}:9100", "name": UNIT, "state": "failed"}
    fleet.alertmanager.fire(alertname="NodeSystemdServiceFailed", service="importer-web-1", **labels)
    run = fleet.run("importer-web-1")
    assert (run["status"], run["reason"]) == ("escalated", "not_about_target"), str(run)
    assert fleet.restarts() == {}


def test_a_host_allows_less_than_the_inventory(fleet: SshFleet) -> None:
    """The host's own allow-list refuses the restart, and the escalation has the reason."""
    fleet.simulated["web-3"].allow("web-3", units={UNIT: ["status", "logs"]})
    fleet.fail("web-3", UNIT)
    run = fleet.run("importer-web-3")
    assert (causes(run), run["status"]) == ({"failed"}, "escalated"), str(run)
    assert "does not allow" in repr(run), str(run)
    assert fleet.restarts() == {}
