"""The real service starts a Job as a remedy on a real cluster: with a login program, a crash at the call, Events."""

from __future__ import annotations

import json
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.servers import cluster_controllers, require, until
from tests.support.servers.alertmanager import Alertmanager
from tests.support.servers.kubernetes import Cluster
from tests.support.servers.remediator import TOKEN, Remediator

pytestmark = [pytest.mark.kubernetes, pytest.mark.long]

PLAYBOOK: dict[str, Any] = {
    "apiVersion": "remediator/v1",
    "kind": "Playbook",
    "name": "index-broken",
    "match": {"alertname": "IndexBroken"},
    "mode": "auto",
    "target": "shop",
    "parameters": {"table": {"label": "table", "pattern": "[a-z]{1,20}"}},
    "steps": [
        {
            "id": "reindex",
            "action": "job.run",
            "with": {"job": "reindex", "values": {"TABLE": "${table}"}},
            "on_success": "next",
            "on_failure": "escalate",
        },
        {"id": "wait", "action": "job.wait", "with": {"job": "reindex"}, "on_success": "verify"},
    ],
    "verify": {
        "settle": "100ms",
        "within": "60s",
        "checks": [{"check": "command.check", "with": {"command": "indexed"}}],
    },
    "escalate": {"to": ["log"], "message": "the index is broken"},
}
RIGHTS = (
    {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["create", "get", "list"]},
    {"apiGroups": ["", "apps", "autoscaling"], "resources": ["*"], "verbs": ["get", "list"]},
    {"apiGroups": [""], "resources": ["events"], "verbs": ["create"]},
)


def executable(path: Path, *lines: str) -> Path:
    """Write a shell script that can be executed."""
    path.write_text("\n".join(("#!/bin/sh", *lines, "")))
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def logs_in(cluster: Cluster, folder: Path) -> tuple[Path, Path]:
    """Return a kubeconfig whose user logs in by a program, and the program."""
    token = cluster.account("remediator", *RIGHTS)
    version = "client.authentication.k8s.io/v1"
    answer = json.dumps({"apiVersion": version, "kind": "ExecCredential", "status": {"token": token}})
    program = executable(folder / "login", f"cat <<'END'\n{answer}\nEND")
    config = yaml.safe_load(cluster.kubeconfig.read_text())
    for user in config["users"]:
        user["user"] = {"exec": {"apiVersion": version, "command": "login"}}
    (folder / "kubeconfig").write_text(yaml.safe_dump(config))
    return folder / "kubeconfig", program


@pytest.fixture
def alertmanager(tmp_path: Path) -> Iterator[Alertmanager]:
    """Return an Alertmanager that the fixture of the remediator starts."""
    made = Alertmanager(tmp_path / "alertmanager")
    yield made
    made.stop()


@pytest.fixture
def remediator(cluster: Cluster, alertmanager: Alertmanager, tmp_path: Path) -> Iterator[Remediator]:
    """Return a remediator, not started, with a Deployment and a Job for it. Its Alertmanager is started."""
    cluster.deploy("shop", "sleep 1000", replicas=0)
    kubeconfig, program = logs_in(cluster, tmp_path)
    shell = ["/bin/sh", "-c", 'echo "indexing $TABLE"; sleep 1; echo indexed']
    container = {"name": "main", "image": cluster.image, "imagePullPolicy": "IfNotPresent", "command": shell}
    pod = {"restartPolicy": "Never", "containers": [container]}
    job = {"apiVersion": "batch/v1", "kind": "Job", "spec": {"backoffLimit": 0, "template": {"spec": pod}}}
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(job))
    look = f"{require('kubectl')} --kubeconfig={cluster.kubeconfig} --namespace={cluster.namespace}"
    look += " get jobs --output=jsonpath='{.items[*].status.succeeded}'"
    indexed = executable(tmp_path / "indexed", f'test "$({look})" = 1')
    made = Remediator(tmp_path / "remediator")
    made.playbooks = [PLAYBOOK]
    harmless = {"destructive": False, "interrupts": False}
    where = {"kind": "kubernetes", "namespace": cluster.namespace, "deployment": "shop", "kubeconfig": str(kubeconfig)}
    jobs = {"reindex": {"manifest": str(tmp_path / "job.yaml"), "values": {"TABLE": "[a-z]+"}, **harmless}}
    made.inventory["services"] = {"shop": {"platform": where, "jobs": jobs}}
    made.settings["kubernetes_logins"] = [{"program": str(program)}]
    made.settings["kubernetes_events"] = True
    made.settings["replica"] = "one"  # another run would wait for the end of the lease on the export
    made.settings["commands"] = {"indexed": {"argv": [str(indexed)], "read_only": True}}
    made.settings["alertmanagers"] = [{"url": alertmanager.url}]
    alertmanager.configuration = f"""
route: {{receiver: remediator, group_by: [alertname], group_wait: 100ms, group_interval: 1s, repeat_interval: 1h}}
receivers:
  - name: remediator
    webhook_configs:
      - url: {made.url}/api/v1/alerts
        http_config: {{authorization: {{credentials: {TOKEN}}}}}
"""
    with cluster_controllers.running(cluster.kubeconfig):
        alertmanager.start()
        yield made
        made.stop()


@pytest.mark.promise(3)
@pytest.mark.parametrize("moment", ["before:call", "after:call"])
def test_a_job_is_created_once_whenever_the_service_is_killed(
    moment: str,
    cluster: Cluster,
    alertmanager: Alertmanager,
    remediator: Remediator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After kill -9 at the call, the next process finds the Job by its name or creates it. Its logs are evidence."""
    monkeypatch.setenv("REMEDIATOR_CRASH_AT", f"kill@{moment}")
    remediator.start()
    alertmanager.fire(alertname="IndexBroken", service="shop", table="orders")
    until(lambda: remediator._process is not None and remediator._process.poll() is not None, "the service is dead")
    monkeypatch.delenv("REMEDIATOR_CRASH_AT")
    remediator.start()
    remediator.wait_for("succeeded", 180)
    assert len(cluster.get("jobs")["items"]) == 1
    with closing(sqlite3.connect(remediator.folder / "state/remediator.db")) as store:
        ((facts,),) = store.execute("SELECT facts FROM evidence WHERE name = 'wait' AND status = 'ok'")
    assert "indexing orders" in json.loads(facts)["logs"], "the logs of the Job are evidence of the run"

    def reasons() -> set[str]:
        found = cluster.get("events")["items"]
        return {each["reason"] for each in found if each["reportingComponent"] == "remediator"}

    until(lambda: reasons() >= {"ActionStarted", "ActionSucceeded", "Healed"}, "the Events are written")
    described = cluster.kubectl("describe", "deployment", "shop")
    assert "create the Job reindex with TABLE=orders" in described
