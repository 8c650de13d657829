"""The remediator fixes a StatefulSet on a real cluster, with only the rights that `remediator rbac` prints."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from remediator.authoring.rbac import ClusterAccess, Grant, rules
from remediator.clients.kubernetes.kinds import WorkloadKind
from remediator.clients.kubernetes.rights import EVIDENCE, rights_for
from tests.deploy.test_heal_kubernetes import alertmanager, playbook, routing
from tests.extensions.platforms.test_kubernetes import kubeconfig, server_of
from tests.support.servers import until
from tests.support.servers.alertmanager import Alertmanager
from tests.support.servers.kubernetes import Cluster
from tests.support.servers.remediator import ROOT, Remediator

__all__ = ["alertmanager"]
pytestmark = [
    pytest.mark.kubernetes,
    pytest.mark.usefixtures("controllers"),
]

ACTIONS = ("service.status", "service.logs", "service.releases", "service.rollback", "pod.delete")
SERVES = "mkdir -p /tmp/www; echo well >/tmp/www/ready; exec httpd -f -p 8080 -h /tmp/www"
PROBE = {"httpGet": {"path": "/ready", "port": 8080}, "periodSeconds": 1, "timeoutSeconds": 10, "failureThreshold": 2}
MISSING = {"name": "PRICES", "valueFrom": {"configMapKeyRef": {"name": "prices", "key": "url"}}}
REPLACES = yaml.safe_load("""
apiVersion: remediator/v1
kind: Playbook
name: pod-hangs
summary: One pod does not get ready any more. Replace it, if its readiness probe is what fails.
match: {alertname: PodHangs}
mode: auto
target: app
diagnose:
  - {id: status, action: service.status}
conclude:
  - id: hangs
    when: >-
      "readiness_failed" in evidence.status.facts.reasons && evidence.status.facts.healthy > 0
    cause: One pod runs and does not answer its readiness probe; others do.
steps:
  - id: replace
    name: Replace the pod that hangs
    action: pod.delete
    for: [hangs]
    timeout: 1m
    on_failure: escalate
verify:
  settle: 1s
  within: 3m
  stable: 2s
  checks:
    - {check: service.running}
escalate:
  to: []
  message: A pod of the app hangs, and others may too. The status names it.
""")


def deploy(cluster: Cluster, **container: Any) -> None:
    """Deploy the app: two pods with a readiness probe."""
    cluster.deploy(
        "app",
        SERVES,
        kind="StatefulSet",
        container={"readinessProbe": PROBE, **container},
        serviceName="app",
        replicas=2,
    )


@pytest.fixture
def remediator(cluster: Cluster, alertmanager: Alertmanager, tmp_path: Path) -> Iterator[Remediator]:
    """Return a started remediator with the app in its inventory. Its account has the rights that its playbooks need."""
    rights = {each for action in ACTIONS for each in rights_for(action, WorkloadKind.STATEFUL_SET)} | set(EVIDENCE)
    grants = (Grant(ClusterAccess(), cluster.namespace, each, ("app",) if each.named else ()) for each in rights)
    path = kubeconfig(tmp_path, server_of(cluster), token=cluster.account("remediator", *rules(grants)))
    made = Remediator(tmp_path / "remediator")
    fragment = yaml.safe_load((ROOT / "playbooks/general-troubleshooting.yaml").read_text())
    made.playbooks = [playbook("deployment-failed"), fragment, REPLACES]
    where = {"kind": "kubernetes", "namespace": cluster.namespace, "kubeconfig": str(path)}
    made.inventory["services"] = {"app": {"platform": {**where, "statefulset": "app"}, "instances": 2}}
    made.settings["environment"] = "demo"
    made.settings["alertmanagers"] = [{"url": alertmanager.url}]
    alertmanager.configuration = routing(made)
    try:
        alertmanager.start()
        made.start()
        yield made
    finally:
        made.stop()


def ready(cluster: Cluster, count: int) -> bool:
    """Return whether this number of pods is ready with the newest template."""
    status = cluster.get("statefulset", "app")["status"]
    return bool(status.get("readyReplicas", 0) == count and status.get("updatedReplicas", count) == 2)


def uids(cluster: Cluster) -> dict[str, str]:
    """Return the UIDs of the app's pods by name."""
    pods = cluster.get("pods", "--selector=app=app")["items"]
    return {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in pods}


def test_a_release_without_its_configuration_is_rolled_back(
    cluster: Cluster, alertmanager: Alertmanager, remediator: Remediator
) -> None:
    """The last pod never starts, and the StatefulSet would wait forever. The other pod is not changed."""
    deploy(cluster)
    until(lambda: ready(cluster, 2), "both pods serve")
    before = uids(cluster)
    deploy(cluster, env=[MISSING])
    until(lambda: _waits(cluster) == "CreateContainerConfigError", "the new pod lacks its ConfigMap")

    alertmanager.fire(alertname="DeploymentFailed", service="app")
    run = remediator.wait_for("succeeded")

    assert [(step["action"], step["outcome"]) for step in run["steps"]] == [("service.rollback", "ok")]
    found = cluster.get("statefulset", "app")
    assert "env" not in found["spec"]["template"]["spec"]["containers"][0] and found["spec"]["replicas"] == 2
    assert ready(cluster, 2)
    after = uids(cluster)
    assert after["app-0"] == before["app-0"] and after["app-1"] != before["app-1"]


def test_only_the_pod_that_hangs_is_replaced(
    cluster: Cluster, alertmanager: Alertmanager, remediator: Remediator
) -> None:
    """The hung pod is replaced once, and no other pod."""
    deploy(cluster)
    until(lambda: ready(cluster, 2), "both pods serve")
    before = uids(cluster)
    _hang(cluster, "app-1")
    until(lambda: ready(cluster, 1), "one pod hangs")

    alertmanager.fire(alertname="PodHangs", service="app")
    run = remediator.wait_for("succeeded")

    assert [(step["action"], step["outcome"]) for step in run["steps"]] == [("pod.delete", "ok")]
    after = uids(cluster)
    assert after["app-0"] == before["app-0"] and after["app-1"] != before["app-1"]
    assert cluster.get("statefulset", "app")["metadata"]["generation"] == 1


def test_if_all_pods_hang_none_is_deleted(cluster: Cluster, alertmanager: Alertmanager, remediator: Remediator) -> None:
    """If all pods hang, the cause is elsewhere, so no pod is deleted and a person decides."""
    deploy(cluster)
    until(lambda: ready(cluster, 2), "both pods serve")
    before = uids(cluster)
    for pod in before:
        _hang(cluster, pod)
    until(lambda: ready(cluster, 0), "both pods hang")

    alertmanager.fire(alertname="PodHangs", service="app")
    run = remediator.wait_for("escalated", 100)

    assert run["steps"] == [] and uids(cluster) == before


def _hang(cluster: Cluster, pod: str) -> None:
    cluster.kubectl("exec", pod, "--", "sh", "-c", "mv /tmp/www/ready /tmp/www/ill")


def _waits(cluster: Cluster) -> str:
    """Return the reasons why containers of the pods wait."""
    pods = cluster.get("pods", "--selector=app=app")["items"]
    states = [each["state"] for pod in pods for each in pod["status"].get("containerStatuses", ())]
    return "".join(str(each.get("waiting", {}).get("reason", "")) for each in states)
