"""deploy/kubernetes on a real API server: which actions its Role allows the remediator, and which it refuses."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from remediator.clients.kubernetes.client import Kubernetes, KubernetesRefused
from remediator.clients.kubernetes.kubeconfig import access
from remediator.clients.kubernetes.settings import ClusterSettings
from remediator.core.identity import People
from remediator.errors import TargetError
from remediator.extensions.platforms.base import State
from remediator.extensions.platforms.kubernetes import KubernetesPlatform
from remediator.playbooks.inventory import Inventory, Service
from tests.support.servers import DEADLINE, require, until
from tests.support.servers.kubernetes import Cluster

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deploy/kubernetes"
real = pytest.mark.kubernetes

NEWER = ("PodDisruptionBudget",)
"""Kinds that the oldest server of the tests lacks: policy/v1 needs Kubernetes 1.21."""


FORBIDDEN = (
    ("patch", "apps", "deployments", "other", ""),
    ("patch", "apps", "deployments", "", ""),
    ("update", "apps", "deployments", "app", ""),
    ("create", "apps", "deployments", "", ""),
    ("delete", "apps", "deployments", "app", ""),
    ("patch", "apps", "deployments", "redis", "scale"),
    ("patch", "apps", "replicasets", "app-1", ""),
    ("patch", "apps", "statefulsets", "redis", ""),
    ("get", "", "secrets", "redis", ""),
    ("list", "", "secrets", "", ""),
    ("get", "", "configmaps", "redis", ""),
    ("create", "", "pods", "", ""),
    ("delete", "", "pods", "app-1", ""),
    ("create", "", "pods", "app-1", "exec"),
    ("get", "", "pods", "app-1", "exec"),
    ("create", "", "pods", "app-1", "eviction"),
    ("create", "", "pods", "app-1", "portforward"),
    ("create", "rbac.authorization.k8s.io", "rolebindings", "", ""),
    ("patch", "rbac.authorization.k8s.io", "roles", "remediator", ""),
    ("impersonate", "", "users", "admin", ""),
    ("create", "batch", "jobs", "", ""),
)
"""Verb, group, resource, name and subresource of calls that the account must not make in the namespace."""


def rendered() -> list[dict[str, Any]]:
    """Return all objects as ``kubectl apply -k`` sends them."""
    done = subprocess.run(["kubectl", "kustomize", FOLDER], capture_output=True, text=True, check=True)
    return list(yaml.safe_load_all(done.stdout))


def of_kind(kind: str) -> list[dict[str, Any]]:
    """Return the objects of a kind, from the files."""
    documents = [each for path in FOLDER.rglob("*.yaml") for each in yaml.safe_load_all(path.read_text())]
    return [each for each in documents if each and each.get("kind") == kind]


@pytest.fixture
def shop(cluster: Cluster) -> Iterator[Cluster]:
    """Apply our objects that the cluster supports, without pods, and remove them after the test."""
    # a small cluster lacks the controller that removes the protection of a claim
    objects = [each for each in rendered() if each["kind"] not in (*NEWER, "PersistentVolumeClaim")]
    for each in objects:
        if each["kind"] in ("Deployment", "StatefulSet"):
            each["spec"]["replicas"] = 0
    text = yaml.safe_dump_all(objects)
    flags = [f"--kubeconfig={cluster.kubeconfig}"]
    there = cluster.kubectl("get", "namespaces", "--output=name").split()
    if taken := {"namespace/shop", "namespace/remediator"} & set(there):  # the test did not create these
        pytest.fail(f"the cluster has {', '.join(sorted(taken))} already; this test would change and remove it")
    try:
        done = subprocess.run(["kubectl", *flags, "apply", "-f", "-"], input=text, text=True, capture_output=True)
        assert done.returncode == 0, done.stderr
        yield cluster
    finally:
        gone = ["delete", "namespace", "shop", "remediator", "--ignore-not-found", "--timeout=60s"]
        subprocess.run(["kubectl", *flags, *gone], check=True, capture_output=True)


@pytest.fixture
def account(shop: Cluster, tmp_path: Path) -> Path:
    """Return a kubeconfig of the remediator's service account."""
    path = "/api/v1/namespaces/remediator/serviceaccounts/remediator/token"
    request = json.dumps({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}})
    answer = json.loads(shop.kubectl("create", "--raw", path, "--filename=-", given=request))
    config = yaml.safe_load(shop.kubeconfig.read_text())
    config["users"] = [{"name": "admin", "user": {"token": answer["status"]["token"]}}]
    file = tmp_path / "account.yaml"
    file.write_text(yaml.safe_dump(config))
    return file


@pytest.fixture
async def client(account: Path) -> AsyncIterator[Kubernetes]:
    """Return a client with the rights of the remediator."""
    client = Kubernetes(access(ClusterSettings(kubeconfig=account), "shop"))
    yield client
    await client.aclose()


@pytest.fixture
async def platform() -> AsyncIterator[KubernetesPlatform]:
    """Return the platform, which is closed after the test."""
    platform = KubernetesPlatform()
    yield platform
    await platform.aclose()


def of_inventory(name: str, account: Path) -> Service:
    """Return a service of the shipped inventory, for access from outside the cluster."""
    inventory = yaml.safe_load((FOLDER / "remediator/inventory.yaml").read_text())
    for service in inventory["services"].values():
        service["platform"]["kubeconfig"] = str(account)
    return Inventory.model_validate(inventory).service(name)


@real
async def test_the_role_allows_all_that_the_platform_does(
    shop: Cluster, account: Path, platform: KubernetesPlatform
) -> None:
    """The shipped account can read status and logs, restart, scale and roll back."""
    app, redis = of_inventory("app", account), of_inventory("redis", account)
    async with asyncio.timeout(DEADLINE):
        while (status := await platform.status(app)).state is not State.STOPPED:
            await asyncio.sleep(0.2)
    assert status.facts["owner"] is None
    assert await platform.logs(app, 10) == ""
    await platform.restart(app, status.pin, 10)
    await platform.restart(redis, (await platform.status(redis)).pin, 10)
    async with asyncio.timeout(DEADLINE):
        while len(await platform.releases(app)) < 2:
            await asyncio.sleep(0.2)
    _, before = await platform.releases(app)
    await platform.rollback(app, (await platform.status(app)).pin, before.id)
    await platform.scale(app, (await platform.status(app)).pin, 1)
    deployment = json.loads(shop.kubectl("get", "deployment", "app", "--namespace=shop", "--output=json"))
    assert deployment["spec"]["replicas"] == 1
    assert deployment["spec"]["template"]["spec"]["containers"][0]["image"] == "remediator-app:1.0"


@real
async def test_missing_rights_are_found_before_a_plan(
    shop: Cluster, account: Path, platform: KubernetesPlatform
) -> None:
    """The shipped Role lacks the right to scale Redis on purpose.

    The check names the missing right, and such a plan is refused.
    """
    app, redis = of_inventory("app", account), of_inventory("redis", account)
    for action in ("service.status", "service.logs", "service.releases", "service.restart", "service.rollback"):
        assert await platform.missing_rights(app, action) == await platform.missing_rights(redis, action) == (), action
    assert await platform.missing_rights(app, "service.scale") == ()
    assert await platform.missing_rights(redis, "service.scale") == ("patch deployments/redis (subresource scale)",)
    with pytest.raises(TargetError, match="no right to patch deployments/redis"):
        await platform.require_rights(redis, "service.scale")


@real
async def test_the_role_allows_nothing_else(client: Kubernetes) -> None:
    """The API server refuses every other access."""
    for verb, group, resource, name, subresource in FORBIDDEN:
        allowed = await client.may(verb, group, resource, name, subresource)
        assert not allowed, (verb, resource, name, subresource)


@real
async def test_what_is_not_allowed_is_refused_when_tried(shop: Cluster, account: Path) -> None:
    """The API server refuses another Deployment, the scale of Redis, and the same names in another namespace."""
    for namespace, name in (("shop", "other"), ("remediator", "remediator"), ("default", "app")):
        client = Kubernetes(access(ClusterSettings(kubeconfig=account), namespace))
        with pytest.raises(KubernetesRefused, match="Forbidden"):
            await client.patch("deployments", name, {"metadata": {"labels": {"x": "y"}}})
        with pytest.raises(KubernetesRefused, match="Forbidden"):
            await client.workloads("deployments", {"app": "app"})
        await client.aclose()
    client = Kubernetes(access(ClusterSettings(kubeconfig=account), "shop"))
    with pytest.raises(KubernetesRefused, match="Forbidden"):
        await client.set_scale("deployments", "redis", 0)
    await client.aclose()


@real
def test_the_server_stores_every_object(shop: Cluster) -> None:
    """The server has stored every object of a kind that it knows."""
    until(lambda: "app" in shop.kubectl("get", "deployments", "--namespace=shop", "--output=name"), "the app")
    for kind, name, namespace in (
        ("networkpolicy", "remediator", "remediator"),
        ("statefulset", "postgres", "remediator"),
        ("deployment", "remediator", "remediator"),
        ("role", "remediator", "shop"),
    ):
        shop.kubectl("get", kind, name, f"--namespace={namespace}")


def test_the_manifests_contain_every_object() -> None:
    """The manifests, rendered as by ``kubectl apply -k``, contain every object in its namespace."""
    require("kubectl")
    found = {(each["kind"], each["metadata"].get("namespace", ""), each["metadata"]["name"]) for each in rendered()}
    assert found >= {
        ("Deployment", "remediator", "remediator"),
        ("StatefulSet", "remediator", "postgres"),
        ("PodDisruptionBudget", "remediator", "remediator"),
        ("PodDisruptionBudget", "shop", "app"),
        ("NetworkPolicy", "remediator", "remediator"),
        ("NetworkPolicy", "shop", "redis"),
        ("Deployment", "shop", "redis-exporter"),
        ("Role", "shop", "remediator"),
        ("RoleBinding", "shop", "remediator"),
        ("Deployment", "shop", "app"),
        ("Deployment", "shop", "redis"),
    }


def test_every_container_is_restricted() -> None:
    """Containers run as non-root with limits and a read-only root, without capabilities or privilege escalation.

    Only the pod of the remediator has a service account token.
    """
    for workload in (*of_kind("Deployment"), *of_kind("StatefulSet")):
        name, pod = workload["metadata"]["name"], workload["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True, name
        assert pod["automountServiceAccountToken"] is (name == "remediator"), name
        for container in (*pod.get("initContainers", ()), *pod["containers"]):
            context = container["securityContext"]
            assert context["readOnlyRootFilesystem"] is True and context["allowPrivilegeEscalation"] is False, name
            assert context["capabilities"] == {"drop": ["ALL"]}, name
            assert "memory" in container["resources"]["limits"], name


def test_every_mutating_rule_has_resource_names() -> None:
    """Every mutating rule has resource names, and no rule has a wildcard."""
    (role,) = of_kind("Role")
    for rule in role["rules"]:
        assert "*" not in [*rule["verbs"], *rule["resources"], *rule["apiGroups"]]
        if set(rule["verbs"]) - {"get", "list", "watch"}:
            assert rule["resourceNames"], rule
    deployments = next(rule for rule in role["rules"] if rule["resources"] == ["deployments"])
    inventory = yaml.safe_load((FOLDER / "remediator/inventory.yaml").read_text())["services"]
    assert sorted(deployments["resourceNames"]) == sorted(each["platform"]["deployment"] for each in inventory.values())


def test_what_is_measured_has_the_names_that_the_rules_ask_for() -> None:
    """ServiceMonitors provide each job and service that rules and playbooks need.

    Each job and service of prometheus.yml that the rules and playbooks need comes from a ServiceMonitor, on a port of
    its Service.
    """
    scraped = yaml.safe_load((ROOT / "prometheus.yml").read_text())["scrape_configs"]
    wanted = {each["job_name"]: each["static_configs"][0]["labels"]["service"] for each in scraped}
    services = {each["metadata"]["name"]: each for each in of_kind("Service")}
    for monitor in of_kind("ServiceMonitor"):
        service = services[monitor["metadata"]["name"]]
        labels = monitor["spec"]["selector"]["matchLabels"]
        assert labels.items() <= service["metadata"]["labels"].items()
        (endpoint,) = monitor["spec"]["endpoints"]
        assert endpoint["port"] in {port["name"] for port in service["spec"]["ports"]}
        given = {each["targetLabel"]: each["replacement"] for each in endpoint.get("relabelings", ())}
        if given:
            assert wanted.pop(given["job"]) == given["service"]
    assert not {"fastapi-app", "redis-exporter"} & wanted.keys()


def test_services_pods_and_policies_find_each_other() -> None:
    """Every Service, NetworkPolicy and Secret refers to existing pods, ports and keys."""
    workloads = [*of_kind("Deployment"), *of_kind("StatefulSet")]
    templates = [each["spec"]["template"] for each in workloads]
    templates += [each["spec"]["jobTemplate"]["spec"]["template"] for each in of_kind("CronJob")]
    for service in of_kind("Service"):
        chosen = [
            each for each in templates if service["spec"]["selector"].items() <= each["metadata"]["labels"].items()
        ]
        (template,) = chosen
        ports = {port["name"] for each in template["spec"]["containers"] for port in each["ports"]}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports, service["metadata"]["name"]
    for policy in of_kind("NetworkPolicy"):
        named = [policy["spec"]["podSelector"]]
        for rule in policy["spec"].get("ingress", ()):
            named += [each["podSelector"] for each in rule["from"] if "podSelector" in each]
        for selector in named:
            labels = selector["matchLabels"].items()
            assert any(labels <= each["metadata"]["labels"].items() for each in templates), policy["metadata"]
    secrets = {each["metadata"]["name"]: each["stringData"] for each in shipped_secrets()}
    for template in templates:
        for volume in template["spec"].get("volumes", ()):
            if "secret" in volume:
                made = secrets[volume["secret"]["secretName"]]
                assert {item["key"] for item in volume["secret"].get("items", ())} <= made.keys(), volume
    settings = (FOLDER / "remediator/remediator.yaml").read_text() + (FOLDER / "remediator/inventory.yaml").read_text()
    named = set(re.findall(r"/run/secrets/remediator/([\w.-]+)", settings))
    assert named and named <= secrets["remediator"].keys()


def shipped_secrets() -> list[dict[str, Any]]:
    """Return the Secrets that secrets.sh prints."""
    argv = [FOLDER / "secrets.sh", "ann@example.com"]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, cwd="/")
    return list(yaml.safe_load_all(done.stdout))


def test_the_person_of_the_secrets_signs_in_with_the_token_that_is_shown() -> None:
    """The token is printed only on standard error, and the Secret has its hash."""
    done = subprocess.run([FOLDER / "secrets.sh", "ann@example.com"], capture_output=True, text=True, check=True)
    token = re.findall(r"shown only now: (\w+)", done.stderr)[0]
    (made,) = (each for each in yaml.safe_load_all(done.stdout) if each["metadata"]["name"] == "remediator")
    people = People.model_validate(yaml.safe_load(made["stringData"]["people.yaml"]))
    person = people.by_token(token)
    assert person is not None and person.id == "ann@example.com" and token not in done.stdout
    assert "no CHAT_URL: no message reaches a person" in done.stderr


def test_no_person_is_refused_with_an_example() -> None:
    """Without a person, secrets.sh fails with an example, because its Secrets would name no user."""
    done = subprocess.run([FOLDER / "secrets.sh"], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "for example ann@example.com" in done.stderr and not done.stdout


def test_no_pod_gets_the_variables_of_services() -> None:
    """Pods do not get REDIS_PORT or APP_PORT from Kubernetes: they are URLs, but programs read them as ports."""
    for workload in (*of_kind("Deployment"), *of_kind("StatefulSet")):
        assert workload["spec"]["template"]["spec"]["enableServiceLinks"] is False, workload["metadata"]["name"]


def test_the_rules_have_the_format_of_the_operator() -> None:
    """The rules stay the same in the format of the operator, with its selector labels."""
    done = subprocess.run([FOLDER / "rules.sh", "release=mine"], capture_output=True, text=True, check=True, cwd="/")
    made = yaml.safe_load(done.stdout)
    assert (made["kind"], made["metadata"]["namespace"]) == ("PrometheusRule", "monitoring")
    assert made["metadata"]["labels"]["release"] == "mine"
    source = (ROOT / "alerting/rules.yml").read_text().replace('{job="', '{namespace="shop",job="')
    assert made["spec"] == yaml.safe_load(source)


def test_the_rules_name_the_namespace_that_is_given() -> None:
    """Every rule on metrics of the cluster, the app or Redis selects only the given namespace."""
    given = {**os.environ, "NAMESPACE": "other"}
    done = subprocess.run([FOLDER / "rules.sh"], capture_output=True, text=True, check=True, env=given)
    made = yaml.safe_load(done.stdout)["spec"]["groups"]
    rules = [rule["expr"] for group in made for rule in group["rules"]]
    selectors = [found for expr in rules for found in re.findall(r"(\w+)\{([^}]*)\}", expr)]
    ours = [inner for name, inner in selectors if name.startswith("kube") or "job=" in inner]
    assert ours and all('namespace="other"' in inner for inner in ours)
    assert "shop" not in "".join(rules)


def test_an_invalid_namespace_is_refused() -> None:
    """An invalid namespace is an error, because its rules would match nothing."""
    given = {**os.environ, "NAMESPACE": 'x",y="'}
    done = subprocess.run([FOLDER / "rules.sh"], capture_output=True, text=True, check=False, env=given)
    assert done.returncode == 2 and "invalid namespace" in done.stderr
