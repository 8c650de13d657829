"""On a real cluster, the remediator fixes faults with the shipped playbooks and only the shipped Role."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import pytest
import redis
import yaml

from remediator.core.identity import hash_token
from tests.deploy.test_kubernetes import of_kind
from tests.support.servers import free_port, until
from tests.support.servers.alertmanager import Alertmanager
from tests.support.servers.docker import Engine
from tests.support.servers.kubernetes import Cluster
from tests.support.servers.remediator import ROOT, TOKEN, Remediator

pytestmark = [pytest.mark.kubernetes]

SERVE = "echo serving; sleep 1000"
CRASH = "echo ModuleNotFoundError: prices >&2; exit 3"
PUBLISHED = "redis:7.2.16-bookworm"
"""Image that the cluster pulls. If the engine of its node is known, the image is built from this machine's Redis."""
ANN = "the token of ann"
ELSEWHERE = ("promql", "http.ok")
"""Checks of the shipped playbooks that need Prometheus or the app, which these tests lack."""


def playbook(name: str) -> dict[str, Any]:
    """Return a shipped playbook without the checks of servers that these tests lack."""
    made: dict[str, Any] = yaml.safe_load((ROOT / f"playbooks/{name}.yaml").read_text())
    made["verify"]["checks"] = [each for each in made["verify"]["checks"] if each["check"] not in ELSEWHERE]
    return made


def account(cluster: Cluster, folder: Path) -> Path:
    """Return a kubeconfig of an account with the rights of the shipped Role in the namespace of the test."""
    (role,) = of_kind("Role")
    config = yaml.safe_load(cluster.kubeconfig.read_text())
    config["users"] = [{"name": each["name"], "user": {}} for each in config["users"]]
    for user in config["users"]:
        user["user"]["token"] = cluster.account("remediator", *role["rules"])
    file = folder / "account.yaml"
    file.write_text(yaml.safe_dump(config))
    return file


def node(cluster: Cluster) -> str:
    """Return the address of a node, where pods on its network can be reached."""
    addresses = cluster.get("nodes")["items"][0]["status"]["addresses"]
    found: str = next(each["address"] for each in addresses if each["type"] == "InternalIP")
    return found


@pytest.fixture
def redis_there(cluster: Cluster, node_engine: Engine | None) -> redis.Redis:
    """Return Redis as a Deployment with at most one pod, on the network of the node."""
    image = PUBLISHED if node_engine is None else node_engine.build_program("redis-server")
    port = free_port()
    argv = [
        "redis-server",
        "--port",
        str(port),
        "--save",
        "",
        "--protected-mode",
        "no",
        "--enable-debug-command",
        "yes",
    ]
    pod = {
        "hostNetwork": True,
        "terminationGracePeriodSeconds": 1,
        "containers": [{"name": "redis", "image": image, "imagePullPolicy": "IfNotPresent", "command": argv}],
    }
    spec = {
        "strategy": {"type": "Recreate"},
        "selector": {"matchLabels": {"app": "redis"}},
        "template": {"metadata": {"labels": {"app": "redis"}}, "spec": pod},
    }
    cluster.apply({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "redis"}, "spec": spec})
    cluster.until_available("redis")
    client = redis.Redis(node(cluster), port, socket_timeout=2)
    until(lambda: answers(client), "Redis answers")
    return client


def answers(client: redis.Redis) -> bool:
    """Return whether Redis answers PING."""
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False


@pytest.fixture
def alertmanager(tmp_path: Path) -> Iterator[Alertmanager]:
    """Return an Alertmanager, not started, that notifies the remediator and answers whether an alert still fires."""
    made = Alertmanager(tmp_path / "alertmanager")
    yield made
    made.stop()


def routing(made: Remediator) -> str:
    """Return the configuration of an Alertmanager that sends every alert to the remediator at once."""
    return f"""
route: {{receiver: remediator, group_by: [alertname], group_wait: 100ms, group_interval: 1s, repeat_interval: 1h}}
receivers:
  - name: remediator
    webhook_configs:
      - url: {made.url}/api/v1/alerts
        http_config: {{authorization: {{credentials: {TOKEN}}}}}
"""


@pytest.fixture
def remediator(
    cluster: Cluster, redis_there: redis.Redis, alertmanager: Alertmanager, tmp_path: Path
) -> Iterator[Remediator]:
    """Return a started remediator with the app and Redis in its inventory, notified by an Alertmanager."""
    made = Remediator(tmp_path / "remediator")
    made.playbooks = [playbook("app-crash-loop"), playbook("redis-down")]
    where = {"kind": "kubernetes", "namespace": cluster.namespace, "kubeconfig": str(account(cluster, tmp_path))}
    address = redis_there.connection_pool.connection_kwargs
    made.inventory["services"] = {
        "redis": {
            "platform": {**where, "deployment": "redis"},
            "redis": {"host": address["host"], "port": address["port"]},
        },
        "app": {"platform": {**where, "deployment": "app"}, "depends_on": ["redis"]},
    }
    made.settings["environment"] = "demo"
    made.settings["access"] = {"people": "people.yaml", "anonymous_role": "viewer"}
    people = {"ann": {"roles": ["admin"], "tokens": [hash_token(ANN)]}}
    (made.folder / "people.yaml").write_text(yaml.safe_dump({"kind": "People", "people": people}))
    made.settings["alertmanagers"] = [{"url": alertmanager.url}]
    alertmanager.configuration = routing(made)
    try:
        alertmanager.start()
        made.start()
        yield made
    finally:
        made.stop()


def test_a_bad_rollout_that_crash_loops_is_rolled_back(
    cluster: Cluster, alertmanager: Alertmanager, remediator: Remediator
) -> None:
    """One rollback restores the previous revision, and the record names it."""
    cluster.deploy("app", SERVE)
    cluster.until_available("app")
    cluster.deploy("app", CRASH)
    until(lambda: _crashes(cluster), "the new pods crash")

    alertmanager.fire(alertname="AppCrashLoopBackOff", service="app")
    run = remediator.wait_for("succeeded", 180)

    assert [(step["action"], step["outcome"]) for step in run["steps"]] == [("service.rollback", "ok")]
    deployment = cluster.get("deployment", "app")
    assert deployment["spec"]["template"]["spec"]["containers"][0]["command"][-1] == SERVE
    assert deployment["status"]["readyReplicas"] == 1
    assert deployment["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "3"


def test_a_hung_redis_is_restarted_after_an_approval(
    cluster: Cluster, alertmanager: Alertmanager, remediator: Remediator, redis_there: redis.Redis
) -> None:
    """After an approval, another pod answers and accepts writes. Kubernetes alone would keep the hung one.

    From outside the pod, a hung Redis looks like one with a slow command, so a person decides.
    """
    (before,) = _pods(cluster, "redis")
    with pytest.raises(redis.TimeoutError):
        redis_there.execute_command("DEBUG", "SLEEP", "1000")
    assert not answers(redis_there)

    alertmanager.fire(alertname="RedisDown", service="redis")
    asked = remediator.wait_for("awaiting_approval", 180)
    decision = json.dumps({"plan_hash": asked["plan_hash"], "confirm": "redis"}).encode()
    path = f"/api/v1/approvals/{asked['detail']['approval']}/approve"
    assert remediator.post(decision, path, ANN) == (200, ANY)
    run = remediator.wait_for("succeeded", 180)

    assert [(step["action"], step["outcome"]) for step in run["steps"]] == [("service.restart", "ok")]
    assert redis_there.set("proof", "1") is True
    assert before not in _pods(cluster, "redis")


def _pods(cluster: Cluster, app: str) -> set[str]:
    return set(cluster.kubectl("get", "pods", f"--selector=app={app}", "--output=name").split())


def _crashes(cluster: Cluster) -> bool:
    text = json.dumps([pod["status"] for pod in cluster.get("pods", "--selector=app=app")["items"]])
    return "CrashLoopBackOff" in text
