"""The metrics of a running service follow the conventions of Prometheus: https://prometheus.io/docs/practices/naming."""

from __future__ import annotations

import subprocess

from prometheus_client.parser import text_string_to_metric_families

from remediator.core.reason import Reason
from remediator.core.run import Status
from remediator.extensions import guards
from tests.support.servers import require, until
from tests.support.servers.remediator import Stack


def _series(text: str) -> set[str]:
    """Return the name and labels of each series, without its value."""
    return {line.rpartition(" ")[0] for line in text.splitlines() if line and not line.startswith("#")}


def _heal(stack: Stack) -> None:
    stack.kill_redis()
    stack.alertmanager.fire(alertname="RedisDown", instance="redis:6379")
    stack.remediator.wait_for("succeeded")


def test_the_metrics_of_a_service_that_healed_follow_the_conventions(stack: Stack) -> None:
    """promtool has no finding; names, units, help texts and label values follow the conventions."""
    service = stack.remediator
    _heal(stack)
    assert service.post(b"{}", token="wrong")[0] == 401
    assert service.post(b"no JSON")[0] == 400
    until(lambda: 'remediator_actions_total{playbook="redis-down"' in service.metrics(), "the action is counted")
    text = service.metrics()

    checked = subprocess.run([require("promtool"), "check", "metrics"], input=text, capture_output=True, text=True)
    assert (checked.returncode, checked.stderr) == (0, "")

    families = {family.name: family for family in text_string_to_metric_families(text)}
    for name, family in families.items():
        assert name.startswith(("remediator_", "process_")), name
        assert family.documentation.endswith("."), name
        assert not name.endswith("_created"), name
        assert ("Unix time" in family.documentation) <= name.endswith(("_timestamp_seconds", "_time_seconds")), name
        for sample in family.samples:
            assert set(sample.labels) <= {
                *("playbook", "target", "status", "reason", "result", "code", "method", "component", "observer"),
                *("kind", "version", "revision", "python_version", "le", "source"),
            }, sample
    reasons = {*Reason, *(each.name for each in guards.BUILTIN), ""}
    transitions = families["remediator_run_transitions"].samples
    assert {sample.labels["status"] for sample in transitions} <= set(Status)
    assert {sample.labels["reason"] for sample in transitions} <= reasons
    known = {sample.labels["component"] for sample in families["remediator_degraded"].samples}
    assert {"intake", "database", "log", "events", "loop ingest"} <= known, "they have a value while they work, too"
    values = {
        (sample.labels["result"], sample.labels["code"]) for sample in families["remediator_notifications"].samples
    }
    assert {("accepted", "200"), ("refused", "503"), ("rejected", "401"), ("rejected", "400")} <= values


def test_a_sender_cannot_create_series(stack: Stack) -> None:
    """Each label value comes from the code or from files of the installation, so the number of series is limited."""
    service = stack.remediator
    service.post(service.notification("firing", alertname="Other", service="none"))
    service.post(b"{}", token="wrong")
    until(lambda: "remediator_waiting_notifications 0.0" in service.metrics(), "the inbox is empty")
    before = _series(service.metrics())
    for number in range(50):
        named = service.notification("firing", alertname=f"Other{number}", service=f"none{number}")
        assert service.post(named)[0] == 200
        assert service.post(b"{}", token=f"wrong{number}")[0] == 401
        assert service.post(b"{}", path=f"/nothing/{number}")[0] == 404
    until(lambda: "remediator_waiting_notifications 0.0" in service.metrics(), "the inbox is empty")
    assert _series(service.metrics()) - before == set()
