"""deploy/kubernetes, installed as documented, becomes ready, breaks for real, and is fixed after an approval."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.servers import cluster_controllers, until
from tests.support.servers.cluster_monitoring import NAMESPACE, as_text, monitoring
from tests.support.servers.cluster_network import ClusterNetwork, volumes
from tests.support.servers.remediator import ROOT

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(1800)]

IMAGES = ("remediator:0.1.0", "remediator-app:1.0", "redis:7.2.16-bookworm", "postgres:16.15-bookworm")
IMAGES += ("oliver006/redis_exporter:v1.89.0-alpine", "prom/prometheus:v3.15.0", "prom/alertmanager:v0.34.1")
REDIS = ("exec", "deployment/redis", "-n", "shop", "-c", "redis", "--", "sh", "-euc")
FULL = """
export REDISCLI_AUTH=$(cat /run/secrets/redis/redis-password)
head -c 8000000 /dev/urandom | redis-cli -x SET blob
redis-cli SAVE
mkdir -p /data/backups
for day in 1 2 3 4 5 6 7 8 9; do
  cp /data/dump.rdb /data/backups/day-$day.rdb
  touch -d "2026-01-0$day 00:00:00" /data/backups/day-$day.rdb
done
"""
"""Fills the volume of 96 MiB to 87 %: nine complete backups of 8 MB, the append-only file and the dump."""
SELECTOR = "app.kubernetes.io/name=remediator"
OWN = """\
apiVersion: remediator/v1
kind: Playbook
name: shop-slow
summary: {summary}
match: {{alertname: ShopSlow, matchers: ['service="app"']}}
mode: approve
target: app
diagnose: [{{id: status, action: service.status}}]
escalate: {{to: [infrastructure], message: The shop is slow.}}
"""


@dataclass(frozen=True, slots=True)
class Installed:
    """The installation and the token of its first user."""

    token: str

    def kubectl(self, *arguments: str, given: str | None = None) -> str:
        """Run kubectl and return its output."""
        return _run("kubectl", *arguments, given=given).stdout

    def call(self, path: str, body: dict[str, Any] | None = None, host: str = "") -> Any:
        """Return an answer of the API, by the address of the Service or of a pod."""
        address = host or self.kubectl(
            "get", "svc", "remediator", "-n", "remediator", "-o", "jsonpath={.spec.clusterIP}"
        )
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://{address}:8095{path}", data, headers)
        with urllib.request.urlopen(request, timeout=15) as answer:
            return json.load(answer)

    def run(self, playbook: str, status: str) -> dict[str, Any] | None:
        """Return the newest run of a playbook if it has this status, because another playbook may have a newer run."""
        try:
            found = [each for each in self.call("/api/v1/runs?limit=50") if each["playbook"] == playbook]
        except OSError:
            return None
        return found[0] if found and found[0]["status"] == status else None

    def approve(self, playbook: str, seconds: float) -> None:
        """Wait for the request of a playbook, and approve it.

        A later step of the plan may lose data, so the approval names the target.
        """
        asked: list[dict[str, Any] | None] = []

        def there() -> bool:
            asked[:] = [self.run(playbook, "awaiting_approval")]
            return asked != [None]

        until(there, f"a person is asked about {playbook}", seconds)
        (run,) = asked
        assert run is not None
        approval = f"/api/v1/approvals/{run['detail']['approval']}/approve"
        assert self.call(approval, {"plan_hash": run["plan_hash"], "confirm": run["target"]})["counted"]


def _run(*argv: str, given: str | None = None) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(argv, cwd=ROOT, input=given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}"
    return done


def documented() -> str:
    """Return the commands of the documentation, from the namespaces to the rollout."""
    text = (ROOT / "docs/deployment.md").read_text()
    block = re.findall(r"### Install\n+```\n(.*?)```", text, re.DOTALL)[0]
    wanted = [line for line in block.splitlines() if "Kubernetes 1.30" not in line and "operator" not in line]
    return "\n".join(wanted)


@pytest.fixture(scope="module")
def installed() -> Iterator[Installed]:
    """Run the documented commands on a cluster whose node is this machine. Remove the installation after the tests."""
    kubeconfig = os.environ.get("KUBECONFIG")
    if not kubeconfig or not os.environ.get("DOCKER_HOST"):
        pytest.skip("needs a cluster of one node, and its engine: set KUBECONFIG and DOCKER_HOST")
    _require_images()
    there = set(_run("kubectl", "get", "namespaces", "-o", "name").stdout.split())
    if taken := {f"namespace/{name}" for name in ("shop", "remediator", NAMESPACE)} & there:
        pytest.fail(f"the cluster has {', '.join(sorted(taken))} already; this test would change and remove it")
    with ExitStack() as stack:
        stack.enter_context(cluster_controllers.running(Path(kubeconfig)))
        if not _run("kubectl", "get", "svc", "-A", "-l", "k8s-app=kube-dns", "-o", "name").stdout:
            stack.enter_context(ClusterNetwork(Path(kubeconfig)).running())
        if not _run("kubectl", "get", "storageclass", "-o", "name").stdout:
            stack.enter_context(volumes(Path(kubeconfig), "1Gi", "2Gi", "10Gi", "10Gi", small="2Gi"))
        gone = ("kubectl", "delete", "namespace", "shop", "remediator", NAMESPACE, "--ignore-not-found")
        stack.callback(subprocess.run, gone, capture_output=True, timeout=180)
        commands = documented()
        if "policy/v1\n" not in _run("kubectl", "api-versions").stdout:  # older than the documentation requires
            older = "kubectl kustomize deploy/kubernetes | sed 's#policy/v1$#policy/v1beta1#' | kubectl apply -f -"
            commands = commands.replace("kubectl apply -k deploy/kubernetes", older)
            backup = "sed 's#batch/v1$#batch/v1beta1#' deploy/kubernetes/backup.yaml | kubectl apply -f -"
            commands = commands.replace("kubectl apply -f deploy/kubernetes/backup.yaml", backup)
        done = _run("bash", "-e", "-o", "pipefail", "-c", commands)
        installed = Installed(re.findall(r"shown only now: (\w+)", done.stderr)[0])
        for what in ("deployment/app", "deployment/redis", "deployment/redis-exporter"):
            installed.kubectl("rollout", "status", what, "-n", "shop", "--timeout=300s")
        token = installed.kubectl(
            "get", "secret", "remediator", "-n", "remediator", "-o", "jsonpath={.data.webhook-token}"
        )
        objects = monitoring(ROOT, base64.b64decode(token).decode())
        installed.kubectl("apply", "-f", "-", given=as_text(objects))
        for what in ("deployment/prometheus-operated", "deployment/alertmanager-operated"):
            installed.kubectl("rollout", "status", what, "-n", NAMESPACE, "--timeout=300s")
        yield installed


def _require_images() -> None:
    """Build the images that the node lacks, and our own images from this version. Skip if that is not possible."""
    missing = [
        image
        for image in IMAGES
        if subprocess.run(["docker", "image", "inspect", image], capture_output=True).returncode
    ]
    if not missing:
        for command in (["--tag", "remediator:0.1.0"], ["--tag", "remediator-app:1.0", "--file", "app/Dockerfile"]):
            _run("docker", "build", "--network", "host", *command, ".")
        return
    if shutil.which("debootstrap") is None or os.geteuid() != 0:
        pytest.skip(f"the node has no image {missing[0]}: as root, with debootstrap installed, run 'make images'")
    _run("bash", "demo/compose/build_fake_images.sh")


def test_both_replicas_serve_with_the_same_keys(installed: Installed) -> None:
    """Both replicas are ready, so neither was refused because of its keys or settings."""
    pods = json.loads(
        installed.kubectl("get", "pods", "-n", "remediator", "-l", "app.kubernetes.io/name=remediator", "-o", "json")
    )["items"]
    assert len(pods) == 2
    for pod in pods:
        conditions = {each["type"]: each["status"] for each in pod["status"]["conditions"]}
        assert conditions["Ready"] == "True", conditions
    variables = json.loads(installed.kubectl("get", "deployment", "app", "-n", "shop", "-o", "json"))
    assert variables["spec"]["template"]["spec"]["enableServiceLinks"] is False


def test_a_full_volume_is_freed_after_an_approval(installed: Installed) -> None:
    """The agent of the volume lists the backups. After an approval, the old ones are in quarantine, and two stay."""
    installed.kubectl(*REDIS, FULL)
    labels = {"alertname": "RedisDiskFull", "namespace": "shop", "persistentvolumeclaim": "redis", "service": "redis"}
    alert = {"labels": {**labels, "severity": "critical"}, "annotations": {"summary": "The disk of Redis is full"}}
    address = installed.kubectl(
        "get", "svc", "alertmanager-operated", "-n", NAMESPACE, "-o", "jsonpath={.spec.clusterIP}"
    )
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"http://{address}:9093/api/v2/alerts", json.dumps([alert]).encode(), headers)
    urllib.request.urlopen(request, timeout=15).close()

    installed.approve("redis-disk-full", 300)

    until(lambda: installed.run("redis-disk-full", "succeeded") is not None, "the run succeeds", 300)
    left = installed.kubectl(*REDIS, "ls /data/backups").split()
    assert len(left) < 9 and {"day-8.rdb", "day-9.rdb"} <= set(left), left
    agent = ("exec", "deployment/redis", "-n", "shop", "-c", "files", "--", "ls", "/quarantine/redis")
    moved = [name for name in installed.kubectl(*agent).split() if name.endswith(".rdb")]
    assert len(moved) + len(left) == 9, (moved, left)


def test_a_dump_of_the_database_is_written(installed: Installed) -> None:
    """The Job of the nightly CronJob succeeds with the rights of the remediator's own role."""
    documents = yaml.safe_load_all((ROOT / "deploy/kubernetes/backup.yaml").read_text())
    template = next(each["spec"]["jobTemplate"] for each in documents if each["kind"] == "CronJob")
    metadata = {"name": "once", "namespace": "remediator"}
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": template["spec"]}
    installed.kubectl("apply", "-f", "-", given=json.dumps(job))
    installed.kubectl("wait", "--for=condition=complete", "job/once", "-n", "remediator", "--timeout=180s")


def test_own_playbooks_are_loaded_without_a_restart(installed: Installed, tmp_path: Path) -> None:
    """The documented command loads a changed playbook. After an error, the last valid version stays in use."""
    text = re.findall(r"^kubectl .*configmap own-playbooks.*$", (ROOT / "docs/deployment.md").read_text(), re.MULTILINE)
    command = text[0].replace("books/", str(tmp_path))
    before = installed.kubectl("get", "pods", "-n", "remediator", "-l", SELECTOR, "-o", "name")
    for summary in ("The first version.", "The second version."):
        (tmp_path / "shop-slow.yaml").write_text(OWN.format(summary=summary))
        _run("bash", "-e", "-o", "pipefail", "-c", command)
        until(lambda text=summary: _summaries(installed) == {text}, f"both replicas use: {summary}", 180)  # type: ignore[misc]
    (tmp_path / "shop-slow.yaml").write_text("kind: Playbook")
    _run("bash", "-e", "-o", "pipefail", "-c", command)
    argv = ("exec", "deployment/remediator", "-n", "remediator", "-c", "remediator", "--", "remediator", "status")
    until(lambda: "shop-slow.yaml:1:" in installed.kubectl(*argv), "the status says that it cannot be used", 180)
    assert _summaries(installed) == {"The second version."}
    installed.kubectl("delete", "configmap", "own-playbooks", "-n", "remediator")
    assert installed.kubectl("get", "pods", "-n", "remediator", "-l", SELECTOR, "-o", "name") == before


def _summaries(installed: Installed) -> set[str]:
    """Return what each replica reports about the playbook."""
    found = json.loads(installed.kubectl("get", "pods", "-n", "remediator", "-l", SELECTOR, "-o", "json"))["items"]
    return {
        each.get("summary", "")
        for pod in found
        for each in installed.call("/api/v1/playbooks", host=pod["status"]["podIP"])
        if each["name"] == "shop-slow"
    }


def test_a_hung_redis_is_restarted_after_an_approval(installed: Installed) -> None:
    """Prometheus detects the fault, a person approves by the API, a new pod serves, and verification succeeds."""
    before = installed.kubectl("get", "pods", "-n", "shop", "-l", "app=redis", "-o", "name")
    containers = _run("docker", "ps", "-q", "--filter", "name=k8s_redis_redis-").stdout.split()
    _run("docker", "kill", "--signal=STOP", *containers)

    # the guard "cooldown" blocks for five minutes after the prune of an earlier test
    installed.approve("redis-down", 600)

    until(lambda: installed.run("redis-down", "succeeded") is not None, "the run succeeds", 300)
    after = installed.kubectl("get", "pods", "-n", "shop", "-l", "app=redis", "-o", "name")
    assert not set(before.split()) & set(after.split())
