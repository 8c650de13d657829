"""RBAC generated from inventory and playbooks grants exactly the needed rights. A real API server confirms this."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from remediator.authoring import rbac
from remediator.authoring.rbac import ClusterAccess, Grant, Subject
from remediator.cli.main import cli
from remediator.clients.kubernetes.client import Kubernetes, KubernetesRefused
from remediator.clients.kubernetes.events import ObjectEvent
from remediator.clients.kubernetes.kubeconfig import access
from remediator.clients.kubernetes.nodes import Nodes
from remediator.clients.kubernetes.rights import Right
from remediator.clients.kubernetes.settings import ClusterSettings
from remediator.config import Config
from remediator.core.clock import SystemClock
from remediator.core.outcome import Outcome
from remediator.core.plan import PlannedCall
from remediator.errors import InputError, TargetError
from remediator.extensions.actions.base import RUN, STEP
from remediator.extensions.actions.job_run import JobRun
from remediator.extensions.actions.job_wait import JobWait
from remediator.extensions.actions.node_cordon import NodeCordon
from remediator.extensions.actions.node_drain import NodeDrain
from remediator.extensions.actions.node_uncordon import NodeUncordon
from remediator.extensions.clientset import ClientSet
from remediator.extensions.platforms.kubernetes import KubernetesPlatform
from remediator.extensions.platforms.kubernetes_nodes import KubernetesNodesPlatform
from remediator.extensions.registry import Registry
from remediator.playbooks.inventory import Inventory, Service
from remediator.playbooks.loader import load, load_config
from tests.support.action_runner import do
from tests.support.servers.kubernetes import Cluster

SETTINGS = """
apiVersion: remediator/v1
kind: Config
state: state
playbooks: [playbooks]
inventory: inventory.yaml
kubernetes_events: true
"""
PLAYBOOK = """
apiVersion: remediator/v1
kind: Playbook
name: {name}
summary: For the test.
match: {{alertname: {name}}}
mode: approve
target: {target}
steps: {steps}
verify: {{checks: [{{check: service.running}}]}}
escalate: {{to: [log]}}
"""
EVENT = ObjectEvent("k", SystemClock().now(), "ActionStarted", "test", False, "service.restart", "test")


def installation(folder: Path, services: dict[str, Any], playbooks: dict[str, list[dict[str, Any]]]) -> Path:
    """Write settings, an inventory, and one playbook with its steps for each target."""
    (folder / "playbooks").mkdir(parents=True, exist_ok=True)
    (folder / "remediator.yaml").write_text(SETTINGS)
    inventory = {"apiVersion": "remediator/v1", "kind": "Inventory", "services": services}
    (folder / "inventory.yaml").write_text(yaml.safe_dump(inventory))
    for target, steps in playbooks.items():
        named = [{"id": f"step-{at}", **step} for at, step in enumerate(steps)]
        text = PLAYBOOK.format(name=f"{target}-down", target=target, steps=json.dumps(named))
        (folder / f"playbooks/{target}-down.yaml").write_text(text)
    return folder / "remediator.yaml"


def printed(config: Path, *arguments: str) -> list[dict[str, Any]]:
    """Return the objects that the command prints."""
    done = CliRunner().invoke(cli, ["rbac", "--config", str(config), *arguments])
    assert done.exit_code == 0, done.output
    return list(yaml.safe_load_all(done.output))


def rule(found: list[dict[str, Any]], kind: str, resource: str, namespace: str | None = None) -> list[dict[str, Any]]:
    """Return the rules for a resource."""
    roles = [
        each for each in found if each["kind"] == kind and (not namespace or each["metadata"]["namespace"] == namespace)
    ]
    return [rule for role in roles for rule in role["rules"] if rule["resources"] == [resource]]


def test_only_what_the_playbooks_use_is_granted(tmp_path: Path) -> None:
    """For a restart, the Role allows to patch one named Deployment. It allows neither scaling nor access to nodes."""
    services = {
        "web": {"platform": {"kind": "kubernetes", "namespace": "shop", "deployment": "web"}},
        "db": {"platform": {"kind": "kubernetes", "namespace": "data", "deployment": "db"}},
        "host": {"platform": {"kind": "systemd", "unit": "x.service"}},
    }
    found = printed(installation(tmp_path, services, {"web": [{"action": "service.restart"}]}))
    assert [(each["kind"], each["metadata"].get("namespace")) for each in found] == [
        ("Role", "data"),
        ("RoleBinding", "data"),
        ("Role", "shop"),
        ("RoleBinding", "shop"),
    ]
    assert found[1]["subjects"] == [{"kind": "ServiceAccount", "name": "remediator", "namespace": "remediator"}]
    (web,), (db,) = rule(found, "Role", "deployments", "shop"), rule(found, "Role", "deployments", "data")
    assert (web["resourceNames"], web["verbs"]) == (["web"], ["get", "patch"])
    assert (db["resourceNames"], db["verbs"]) == (["db"], ["get"])
    assert not rule(found, "Role", "deployments/scale") and not rule(found, "Role", "jobs")
    assert rule(found, "Role", "events", "shop") == [
        {"apiGroups": [""], "resources": ["events"], "verbs": ["create", "list"]}
    ]
    for role in found:
        for each in role.get("rules", ()):
            assert "*" not in [*each["verbs"], *each["resources"], *each["apiGroups"]]


def test_nodes_get_a_cluster_role_with_their_names(tmp_path: Path) -> None:
    """RBAC has no patterns, so a node pattern gives no names. Events of nodes are in the namespace default."""
    steps = {"workers": [{"action": "node.drain", "with": {"node": "worker-1"}}]}

    def of(*nodes: str) -> list[dict[str, Any]]:
        services = {"workers": {"platform": {"kind": "kubernetes_nodes", "nodes": list(nodes)}}}
        return printed(installation(tmp_path, services, steps), "--user", "ann@example.com")

    found = of("worker-1", "worker-2")
    named, listed = rule(found, "ClusterRole", "nodes")
    assert listed["verbs"] == ["list"] and "resourceNames" not in listed
    assert (named["resourceNames"], named["verbs"]) == (["worker-1", "worker-2"], ["get", "patch"])
    assert rule(found, "ClusterRole", "pods/eviction")[0]["verbs"] == ["create"]
    assert rule(found, "Role", "events", "default")[0]["verbs"] == ["create"]
    binding = next(each for each in found if each["kind"] == "ClusterRoleBinding")
    assert binding["subjects"] == [{"apiGroup": rbac._API, "kind": "User", "name": "ann@example.com"}]
    (every,) = rule(of("worker-*"), "ClusterRole", "nodes")
    assert every["verbs"] == ["get", "list", "patch"] and "resourceNames" not in every


def test_gitops_objects_are_named(tmp_path: Path) -> None:
    """Rights on GitOps objects name each object in its own namespace."""
    services = {
        "web": {
            "platform": {"kind": "kubernetes", "namespace": "shop", "selector": {"app": "web"}},
            "argocd": {"application": "web"},
            "flux": {"kind": "Kustomization", "name": "web"},
        }
    }
    steps = [{"action": "argocd.pause"}, {"action": "flux.rollback"}]
    found = printed(installation(tmp_path, services, {"web": steps}), "--group", "ops")
    (application,) = rule(found, "Role", "applications", "argocd")
    assert (application["resourceNames"], application["verbs"]) == (["web"], ["get", "patch"])
    (kustomization,) = rule(found, "Role", "kustomizations", "flux-system")
    assert (kustomization["resourceNames"], kustomization["verbs"]) == (["web"], ["get"])
    assert rule(found, "Role", "gitrepositories", "flux-system")[0]["verbs"] == ["get", "patch"]
    (deployment,) = rule(found, "Role", "deployments", "shop")
    assert "resourceNames" not in deployment


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--service-account", "remediator"], "expected NAMESPACE/NAME"),
        (["--user", "a", "--group", "b"], "use one"),
        (
            ["--kubeconfig", "/none"],
            "no service of the inventory uses /none; used: the cluster of the remediator's pod",
        ),
    ],
)
def test_wrong_usage_is_explained(arguments: list[str], message: str, tmp_path: Path) -> None:
    """The error shows a valid value."""
    services = {"web": {"platform": {"kind": "kubernetes", "namespace": "shop", "deployment": "web"}}}
    config = installation(tmp_path, services, {"web": [{"action": "service.restart"}]})
    done = CliRunner().invoke(cli, ["rbac", "--config", str(config), *arguments])
    assert isinstance(done.exception, InputError) and message in str(done.exception)


def test_one_cluster_is_chosen() -> None:
    """The output has the roles of one cluster, so that no role is applied to the wrong cluster."""
    right = Right("list", "", "pods")
    inside, east, west = (
        Grant(each, "a", right, ())
        for each in (ClusterAccess(), ClusterAccess(Path("/k"), "east"), ClusterAccess(Path("/k"), "west"))
    )
    assert rbac.choose_cluster([inside, east], None, None) == [inside]
    assert rbac.choose_cluster([east], None, None) == [east]
    assert rbac.choose_cluster([inside, east, west], Path("/k"), "west") == [west]
    with pytest.raises(InputError, match=r"in several clusters ./k, context east; /k, context west"):
        rbac.choose_cluster([east, west], None, None)
    with pytest.raises(InputError, match="nothing to grant"):
        rbac.choose_cluster([], None, None)


def test_a_right_on_all_objects_includes_single_ones() -> None:
    """A right on all objects gives one rule without names."""
    here, get = ClusterAccess(), Right("get", "apps", "deployments", named=True)
    made = rbac.rules([Grant(here, "a", get, ("web",)), Grant(here, "a", get, ())])
    assert made == [{"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get"]}]
    assert Subject("ServiceAccount", "r", "n").document() == {"kind": "ServiceAccount", "name": "r", "namespace": "n"}


class Account:
    """A service account with the generated rights, which performs every call of a run."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self.cluster, self.node = cluster, f"{cluster.namespace}-a"
        self.platforms = {"kubernetes": KubernetesPlatform(), "kubernetes_nodes": KubernetesNodesPlatform()}
        cluster.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "remediator"}})
        path = f"/api/v1/namespaces/{cluster.namespace}/serviceaccounts/remediator/token"
        request = json.dumps({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}})
        token = json.loads(cluster.kubectl("create", "--raw", path, "--filename=-", given=request))["status"]["token"]
        config = yaml.safe_load(cluster.kubeconfig.read_text())
        config["users"] = [{**each, "user": {"token": token}} for each in config["users"]]
        self.kubeconfig = folder / "kubeconfig"
        self.kubeconfig.write_text(yaml.safe_dump(config))
        container = {"name": "main", "image": "none", "imagePullPolicy": "Never"}
        pod = {"restartPolicy": "Never", "containers": [container], "nodeSelector": {"no": "node"}}
        job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {}, "spec": {"template": {"spec": pod}}}
        (folder / "job.yaml").write_text(yaml.safe_dump(job))
        self.config = installation(folder, self._services(folder), STEPS(self.node))
        inventory = yaml.safe_load((folder / "inventory.yaml").read_text())
        self.inventory = Inventory.model_validate(inventory)
        self.clients = ClientSet(platforms=self.platforms, inventory=lambda: self.inventory)

    def _services(self, folder: Path) -> dict[str, Any]:
        where = {"kubeconfig": str(self.kubeconfig)}
        web = {"kind": "kubernetes", "namespace": self.cluster.namespace, "deployment": "web", **where}
        nodes = {"kind": "kubernetes_nodes", "nodes": [self.node], **where}
        jobs = {"reindex": {"manifest": str(folder / "job.yaml")}}
        return {"web": {"platform": web, "jobs": jobs}, "workers": {"platform": nodes}}

    def service(self, name: str) -> Service:
        """Return a service of the inventory."""
        return self.inventory.service(name)

    def apply(self, grants: list[Grant]) -> None:
        """Grant exactly these rights to the account."""
        if not any(each.namespace == "default" for each in grants):
            self.cluster.kubectl("delete", "role", self.role, "--namespace=default", "--ignore-not-found")
        made = rbac.documents(grants, Subject("ServiceAccount", "remediator", self.cluster.namespace), self.role)
        for each in made:
            self.cluster.kubectl(
                "apply",
                "--filename=-",
                f"--namespace={each['metadata'].get('namespace', 'default')}",
                given=json.dumps(each),
            )

    @property
    def role(self) -> str:
        """Return the name of the roles, which no other test uses."""
        return f"remediator-{self.cluster.namespace}"

    async def everything(self) -> None:
        """Perform every action of the playbooks."""
        RUN.set("run-rbac")
        STEP.set("step")
        platform, web, workers = self.platforms["kubernetes"], self.service("web"), self.service("workers")
        status = await platform.status(web)
        assert status.facts["owner"] is None and await platform.logs(web, 5) is not None
        await platform.restart(web, status.pin, 5)
        for name in ("service.rollback", "service.releases", "service.scale", "job.run", "job.wait"):
            assert await platform.missing_rights(web, name) == ()
        _, before, *_ = await platform.releases(web)
        await platform.rollback(web, (await platform.status(web)).pin, before.id)
        await platform.scale(web, (await platform.status(web)).pin, 1)
        assert (await do(JobRun(self.clients), web, job="reindex")).outcome is Outcome.OK
        await do(JobWait(self.clients), web, job="reindex")
        for action in (NodeCordon(self.clients), NodeDrain(self.clients), NodeUncordon(self.clients)):
            assert (await do(action, workers, node=self.node)).outcome is Outcome.OK
        await platform.write_event(web, PlannedCall(text="x"), EVENT)
        uid = self.cluster.get("node", self.node)["metadata"]["uid"]
        call = PlannedCall(text="x", arguments={"node": self.node}, pin={"uid": uid})
        await self.platforms["kubernetes_nodes"].write_event(workers, call, EVENT)


def STEPS(node: str) -> dict[str, list[dict[str, Any]]]:
    """All actions on Kubernetes."""
    web = ["service.restart", "service.rollback", "service.scale", "service.releases", "service.logs"]
    return {
        "web": [
            *({"action": each, **({"with": {"replicas": 1}} if each == "service.scale" else {})} for each in web),
            {"action": "job.run", "with": {"job": "reindex"}},
            {"action": "job.wait", "with": {"job": "reindex"}},
        ],
        "workers": [{"action": f"node.{each}", "with": {"node": node}} for each in ("cordon", "drain", "uncordon")],
    }


@pytest.fixture
async def account(cluster: Cluster, tmp_path: Path) -> AsyncIterator[Account]:
    """Return an account without rights, a Deployment with two revisions, and a node."""
    made = Account(cluster, tmp_path)
    cluster.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": made.node}})
    cluster.deploy("web", "echo one; sleep 1000")
    cluster.until_available("web")
    cluster.deploy("web", "echo two; sleep 1000")
    cluster.until_available("web")
    yield made
    for platform in made.platforms.values():
        await platform.aclose()
    cluster.kubectl("delete", "node", made.node, "--ignore-not-found")
    cluster.kubectl("delete", "clusterrole,clusterrolebinding", made.role, "--ignore-not-found")
    cluster.kubectl("delete", "role,rolebinding", made.role, "--namespace=default", "--ignore-not-found")


async def refused(work: Callable[[], Awaitable[Any]]) -> bool:
    """Return whether the API server refuses a call because a right is missing."""
    try:
        await work()
    except (KubernetesRefused, TargetError) as error:
        return "orbidden" in str(error) or "no right" in str(error)
    return False


@pytest.mark.kubernetes
@pytest.mark.long
async def test_every_action_works_only_with_all_rights(account: Account) -> None:
    """With all rights, every action works. Without any one right, the API server refuses its call."""
    loaded = printed(account.config, "--name", account.role)
    assert {each["kind"] for each in loaded} == {"Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"}
    grants = list(dict.fromkeys(_grants(account)))
    account.apply(grants)
    await account.everything()
    assert len(grants) > 15
    for grant in grants:
        account.apply([each for each in grants if not covers(each, grant)])
        assert await becomes(lambda grant=grant: refused(lambda: probe(account, grant)), True), grant
    account.apply(grants)
    for grant in grants:
        assert await becomes(lambda grant=grant: refused(lambda: probe(account, grant)), False), grant
    patch = next(each for each in grants if each.right.verb == "patch" and each.namespace)
    assert await refused(lambda: probe(account, patch, "other")), "a right by name is for this name alone"


def covers(other: Grant, grant: Grant) -> bool:
    """Return whether a right includes another: the same right, in the same namespace or in the whole cluster."""
    one, two = other.right, grant.right
    same = (one.verb, one.group, one.resource, one.subresource) == (two.verb, two.group, two.resource, two.subresource)
    return same and other.namespace in (grant.namespace, "")


async def becomes(look: Callable[[], Awaitable[bool]], expected: bool) -> bool:
    """Return whether the API server answers as expected soon, because it applies a changed Role after a delay."""
    for _ in range(50):
        if await look() is expected:
            return True
        await asyncio.sleep(0.2)
    return False


def _grants(account: Account) -> list[Grant]:
    config = load_config(account.config, Config)
    loaded = load(config.playbooks, config.inventory, Registry().catalogue())
    return list(rbac.grants(loaded.playbooks, loaded.inventory, events=True))


async def probe(account: Account, grant: Grant, name: str = "web") -> None:
    """Make a call that needs exactly this right and changes nothing important."""
    right, name = grant.right, account.node if not grant.namespace else name
    allowed = access(ClusterSettings(kubeconfig=account.kubeconfig), grant.namespace or "default")
    client = Kubernetes(allowed) if grant.namespace else Nodes(allowed)
    prefix = "/api/v1" if not right.group else f"/apis/{right.group}/v1"
    scope = f"/namespaces/{grant.namespace}" if grant.namespace else ""
    if not grant.namespace and right.resource != "nodes" and right.verb != "list":
        scope = f"/namespaces/{account.cluster.namespace}"
    path = f"{prefix}{scope}/{right.resource}"
    if right.verb != "list" and not (right.verb == "create" and not right.subresource):
        path += f"/{name}" + (f"/{right.subresource}" if right.subresource else "")
    patch = {"json": {}, "headers": {"Content-Type": "application/merge-patch+json"}}
    method, more = {
        "get": ("GET", {}),
        "list": ("GET", {}),
        "patch": ("PATCH", patch),
        "create": ("POST", {"json": {}}),
    }[right.verb]
    try:
        await client._call(method, path, **more)
    except KubernetesRefused as error:
        if error.status == 403:  # any other error means that the right exists: no such pod, or an invalid body
            raise
    finally:
        await client.aclose()
