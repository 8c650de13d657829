"""Cordon, drain and uncordon nodes on a real API server.

The nodes are objects without a kubelet, so pods keep the status that the test writes.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
import yaml

from remediator.core.outcome import Outcome
from remediator.errors import TargetError, Unreachable
from remediator.extensions.actions.base import RUN, Action, EffectStatus
from remediator.extensions.actions.node_cordon import NodeCordon
from remediator.extensions.actions.node_drain import NodeDrain
from remediator.extensions.actions.node_uncordon import NodeUncordon
from remediator.extensions.clientset import ClientSet
from remediator.extensions.platforms.base import State
from remediator.extensions.platforms.kubernetes_nodes import KubernetesNodesPlatform
from remediator.playbooks.inventory import Inventory, Service
from tests.support.action_runner import do, observe, plan, undo
from tests.support.servers.kubernetes import Cluster

real = pytest.mark.kubernetes
CLIENTS = ClientSet(platforms={"kubernetes_nodes": KubernetesNodesPlatform()})
ACTIONS: dict[str, Action] = {each.name: each(CLIENTS) for each in (NodeCordon, NodeDrain, NodeUncordon)}


@pytest.fixture
def nodes(cluster: Cluster) -> Iterator[tuple[str, str]]:
    """Create two ready nodes for this test only."""
    names = (f"{cluster.namespace}-a", f"{cluster.namespace}-b")
    for name in names:
        cluster.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": {"test": name}}})
        ready = {"type": "Ready", "status": "True", "reason": "Test", "message": "", "lastHeartbeatTime": None}
        cluster.kubectl("patch", "node", name, "--subresource=status", "--patch", yaml.safe_dump(conditions(ready)))
    RUN.set("run-one")
    yield names
    cluster.kubectl("delete", "pods", "--all", "--grace-period=0", "--force", "--wait=false")
    cluster.kubectl("delete", "node", *names, "--ignore-not-found")


def conditions(*items: dict[str, Any]) -> dict[str, Any]:
    """Return a patch of a node's conditions."""
    return {"status": {"conditions": list(items)}}


def workers(cluster: Cluster, *, nodes: list[str] | None = None, **binding: Any) -> Service:
    """Return a service with the nodes of the test."""
    allowed = nodes or [f"{cluster.namespace}-*"]
    platform = {"kind": "kubernetes_nodes", "nodes": allowed, "kubeconfig": str(cluster.kubeconfig), **binding}
    return Service.model_validate({"name": "workers", "platform": platform})


def pod(cluster: Cluster, name: str, node: str, owner: str = "ConfigMap", **more: Any) -> None:
    """Create a pod on a node. Its controller is a ConfigMap, which does nothing; an empty text means no controller."""
    container = {"name": "main", "image": "none", "imagePullPolicy": "Never"}
    spec = {"nodeName": node, "containers": [container], "terminationGracePeriodSeconds": 0, **more.pop("spec", {})}
    metadata: dict[str, Any] = {"name": name, "labels": {"app": name}, **more}
    if owner:
        cluster.apply(owner_object(owner, "owner", node))
        uid = cluster.get(owner.lower(), "owner")["metadata"]["uid"]
        api = "v1" if owner == "ConfigMap" else "apps/v1"
        metadata["ownerReferences"] = [
            {"apiVersion": api, "kind": owner, "name": "owner", "uid": uid, "controller": True}
        ]
    cluster.apply({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})


def owner_object(kind: str, name: str, node: str) -> dict[str, Any]:
    """Create an object that can be the controller of a pod."""
    if kind == "ConfigMap":
        return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name}}
    template = {  # controllers of the cluster schedule the pod on the only node of the cluster
        "metadata": {"labels": {"app": "agent"}},
        "spec": {"nodeSelector": {"test": node}, "containers": [{"name": "main", "image": "none"}]},
    }
    update = {"type": "OnDelete"}
    spec = {"selector": {"matchLabels": {"app": "agent"}}, "updateStrategy": update, "template": template}
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name}, "spec": spec}


def set_status(cluster: Cluster, name: str, **status: Any) -> None:
    """Write the status of a pod, as a kubelet would."""
    cluster.kubectl("patch", "pod", name, "--subresource=status", "--patch", yaml.safe_dump({"status": status}))


def cordoned(cluster: Cluster, node: str) -> bool:
    """Return whether kubectl shows the node as unschedulable."""
    return bool(cluster.get("node", node)["spec"].get("unschedulable"))


def names(cluster: Cluster) -> set[str]:
    """Return the names of all pods, with ``agent`` for each pod of a DaemonSet."""
    found = cluster.get("pods")["items"]
    return {each["metadata"]["labels"].get("app", each["metadata"]["name"]) for each in found}


@real
async def test_a_node_is_cordoned_observed_and_uncordoned(cluster: Cluster, nodes: tuple[str, str]) -> None:
    """The annotation of the node contains the ID of the run; the undo removes it."""
    node, service, action = nodes[0], workers(cluster), ACTIONS["node.cordon"]
    call = await plan(action, service, node=node)
    assert call.text == f"cordon node {node}" and call.undo == f"uncordon node {node}" and not cordoned(cluster, node)
    assert (await observe(action, service, call, node=node)).happened is EffectStatus.NO
    result = await do(action, service, call=call, node=node)
    assert result.outcome is Outcome.OK and cordoned(cluster, node)
    assert cluster.get("node", node)["metadata"]["annotations"]["remediator.cordoned-by"] == "run-one"
    assert (await observe(action, service, call, node=node)).happened is EffectStatus.YES
    assert (await do(action, service, call=call, node=node)).outcome is Outcome.OK  # a second call changes nothing
    await undo(action, ACTIONS, service, call, result)
    assert not cordoned(cluster, node)
    assert "remediator.cordoned-by" not in cluster.get("node", node)["metadata"].get("annotations", {})
    assert (await observe(action, service, call, node=node)).happened is EffectStatus.NO


@real
async def test_a_node_that_a_person_cordoned_is_left_alone(cluster: Cluster, nodes: tuple[str, str]) -> None:
    """Such a node is neither drained nor uncordoned, also if the person cordoned it after planning."""
    node, service = nodes[0], workers(cluster)
    planned = await plan(ACTIONS["node.drain"], service, node=node)
    cluster.kubectl("cordon", node)
    for name in ("node.cordon", "node.drain"):
        with pytest.raises(TargetError, match="not by the remediator"):
            await plan(ACTIONS[name], service, node=node)
    with pytest.raises(TargetError, match="someone may be working on it"):
        await do(ACTIONS["node.drain"], service, call=planned, node=node)
    with pytest.raises(TargetError, match=f"kubectl uncordon {node}"):
        await plan(ACTIONS["node.uncordon"], service, node=node)
    assert cordoned(cluster, node)


@real
async def test_a_node_that_another_run_cordoned_is_not_taken_over(cluster: Cluster, nodes: tuple[str, str]) -> None:
    """The node is left to the other run, which may still be in progress."""
    await do(ACTIONS["node.cordon"], workers(cluster), node=nodes[0])
    RUN.set("run-two")
    with pytest.raises(TargetError, match="cordoned by run run-one"):
        await plan(ACTIONS["node.drain"], workers(cluster), node=nodes[0])


@real
async def test_the_limit_counts_every_cordoned_node(cluster: Cluster, nodes: tuple[str, str]) -> None:
    """Nodes that a person cordoned count towards the limit, at planning and before the call."""
    first, second = nodes
    service, action = workers(cluster), ACTIONS["node.cordon"]
    planned = await plan(action, service, node=first)
    cluster.kubectl("cordon", second)
    for attempt in (plan(action, service, node=first), do(action, service, call=planned, node=first)):
        with pytest.raises(TargetError, match=f"1 of the nodes of workers are cordoned .{second}., and max_cordoned"):
            await attempt
    assert not cordoned(cluster, first)
    await do(action, workers(cluster, max_cordoned=2), node=first)
    assert cordoned(cluster, first)


@real
async def test_only_nodes_of_the_inventory_are_changed(cluster: Cluster, nodes: tuple[str, str]) -> None:
    """The alert's label can name any node, but only nodes of the inventory are accepted."""
    first, second = nodes
    service = workers(cluster, nodes=[first])
    for action in ACTIONS.values():
        with pytest.raises(TargetError, match="the inventory does not allow node"):
            await plan(action, service, node=second)
    with pytest.raises(TargetError, match="does not exist"):
        await plan(ACTIONS["node.cordon"], workers(cluster), node=f"{cluster.namespace}-c")
    for evil in ("../pods", "a b", "node;reboot", "A", ""):
        with pytest.raises(ValueError, match="node"):
            NodeDrain.Parameters.model_validate({"node": evil})


@real
async def test_a_node_that_was_replaced_is_refused(cluster: Cluster, nodes: tuple[str, str]) -> None:
    """If a node was replaced by one with the same name, the action is refused: the approval was for the old node."""
    node, service = nodes[0], workers(cluster)
    call = await plan(ACTIONS["node.drain"], service, node=node)
    cluster.kubectl("delete", "node", node)
    cluster.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": node}})
    with pytest.raises(TargetError, match="was replaced after planning"):
        await do(ACTIONS["node.drain"], service, call=call, node=node)
    assert not cordoned(cluster, node)


@real
async def test_a_drain_evicts_what_kubectl_drain_evicts(cluster: Cluster, nodes: tuple[str, str]) -> None:
    """A drain evicts pods that have a controller or have ended; pods of DaemonSets and static pods stay."""
    node, other = nodes
    service, action = workers(cluster), ACTIONS["node.drain"]
    pod(cluster, "web", node)
    pod(cluster, "elsewhere", other)
    pod(cluster, "agent", node, owner="DaemonSet")
    pod(cluster, "static", node, owner="", annotations={"kubernetes.io/config.mirror": "x"})
    pod(cluster, "done", node, owner="")
    set_status(cluster, "done", phase="Succeeded")
    call = await plan(action, service, node=node)
    assert call.text == f"cordon node {node} and evict its pods"
    assert call.measurement is not None and "2 pods to evict" in call.measurement and "2 stay" in call.measurement
    assert names(cluster) == {"web", "elsewhere", "agent", "static", "done"}
    assert (await action.cost(service, action.Parameters.model_validate({"node": node}), call)).sole_instance is False
    result = await do(action, service, call=call, node=node)
    assert result.outcome is Outcome.OK, result.summary
    assert sorted(result.output["evicted"]) == [f"{cluster.namespace}/done", f"{cluster.namespace}/web"]
    assert any("DaemonSet owner" in each for each in result.output["staying"])
    assert names(cluster) == {"elsewhere", "agent", "static"} and cordoned(cluster, node)
    assert (await observe(action, service, call, node=node)).happened is EffectStatus.YES
    await undo(action, ACTIONS, service, call, result)
    assert not cordoned(cluster, node)


@real
async def test_pods_that_would_be_lost_are_refused_before_anything_is_done(
    cluster: Cluster, nodes: tuple[str, str]
) -> None:
    """Like ``kubectl drain`` without --force and --delete-emptydir-data, the drain is refused; the inventory can allow
    both."""
    node, action = nodes[0], ACTIONS["node.drain"]
    call = await plan(action, workers(cluster), node=node)
    pod(cluster, "alone", node, owner="")
    pod(cluster, "cache", node, spec={"volumes": [{"name": "scratch", "emptyDir": {}}]})
    for attempt in (plan(action, workers(cluster), node=node), do(action, workers(cluster), call=call, node=node)):
        with pytest.raises(TargetError, match="no controller would create it again") as refused:
            await attempt
        assert "emptyDir volume would be lost" in str(refused.value)
    assert names(cluster) == {"alone", "cache"} and not cordoned(cluster, node)
    allowing = workers(cluster, evict_unmanaged=True, delete_local_data=True)
    assert (await do(action, allowing, node=node)).outcome is Outcome.OK
    assert names(cluster) == set()


@real
async def test_a_budget_that_refuses_is_named_and_respected(cluster: Cluster, nodes: tuple[str, str]) -> None:
    """The pod stays, and the reason names the PodDisruptionBudget. When the budget allows the eviction, the same drain
    continues."""
    node, service, action = nodes[0], workers(cluster), ACTIONS["node.drain"]
    pod(cluster, "web", node)
    pod(cluster, "batch", node)
    for name in ("web", "batch"):
        set_status(cluster, name, phase="Running", **conditions({"type": "Ready", "status": "True"})["status"])
    budget(cluster, "web", allowed=0)
    call = await plan(action, service, node=node)
    result = await do(action, service, call=call, node=node, within="3s")
    assert result.outcome is Outcome.FAILED
    assert "The disruption budget web needs 1 healthy pods and has 1 currently" in result.summary
    assert "stays cordoned" in result.summary and result.output["evicted"] == [f"{cluster.namespace}/batch"]
    assert names(cluster) == {"web"} and cordoned(cluster, node)
    seen = await observe(action, service, call, node=node)
    assert seen.happened is EffectStatus.UNKNOWN and "has 1 pods" in seen.summary
    budget(cluster, "web", allowed=1)
    again = await do(action, service, call=call, node=node, within="30s")
    assert again.outcome is Outcome.OK, again.summary
    assert names(cluster) == set()


def budget(cluster: Cluster, app: str, *, allowed: int) -> None:
    """Create a PodDisruptionBudget with the status that its controller would write."""
    api = "policy/v1" if "policy/v1\n" in cluster.kubectl("api-versions") + "\n" else "policy/v1beta1"
    spec = {"minAvailable": 1 - allowed, "selector": {"matchLabels": {"app": app}}}
    cluster.apply({"apiVersion": api, "kind": "PodDisruptionBudget", "metadata": {"name": app}, "spec": spec})
    seen = cluster.get("poddisruptionbudget", app)["metadata"]["generation"]
    counts = {"expectedPods": 1, "currentHealthy": 1, "desiredHealthy": 1 - allowed, "disruptionsAllowed": allowed}
    status = {"status": {**counts, "observedGeneration": seen, "disruptedPods": {}}}
    patch = ("--subresource=status", "--type=merge", "--patch", yaml.safe_dump(status))
    cluster.kubectl("patch", "poddisruptionbudget", app, *patch)


@real
async def test_the_status_counts_schedulable_nodes(cluster: Cluster, nodes: tuple[str, str]) -> None:
    """Cordoned and unready nodes do not count as healthy; the status has a reason for each."""
    platform, service = KubernetesNodesPlatform(), workers(cluster)
    status = await platform.status(service)
    assert (status.state, status.instances, status.healthy) == (State.RUNNING, 2, 2)
    cluster.kubectl("cordon", nodes[0])
    lost = {"type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown", "message": "Kubelet stopped"}
    cluster.kubectl("patch", "node", nodes[1], "--subresource=status", "--patch", yaml.safe_dump(conditions(lost)))
    status = await platform.status(service)
    assert (status.state, status.healthy) == (State.EXITED, 0)
    assert f"{nodes[0]}: cordoned by a person or another program" in status.summary
    assert f"{nodes[1]}: not ready (NodeStatusUnknown: Kubelet stopped)" in status.summary
    with pytest.raises(TargetError, match="has no node of workers"):
        await platform.status(workers(cluster, nodes=["none-*"]))
    for call in (platform.logs(service, 10), platform.restart(service, {}, 1)):
        with pytest.raises(TargetError, match="are nodes"):
            await call


@real
async def test_rights_are_asked_for_before_a_plan(cluster: Cluster, nodes: tuple[str, str], tmp_path: Any) -> None:
    """If the account has no rights on nodes, the plan fails and names them."""
    token = cluster.account("little", {"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]})
    config = yaml.safe_load(cluster.kubeconfig.read_text())
    config["users"] = [{**each, "user": {"token": token}} for each in config["users"]]
    (tmp_path / "config").write_text(yaml.safe_dump(config))
    service = workers(cluster, nodes=list(nodes), kubeconfig=str(tmp_path / "config"))
    with pytest.raises(TargetError, match=f"no right to .*patch nodes/{nodes[0]}.*create pods .subresource eviction."):
        await plan(ACTIONS["node.drain"], service, node=nodes[0])


async def test_an_api_server_that_is_down_is_unreachable(tmp_path: Any) -> None:
    """An API server that is down raises :class:`Unreachable`: nothing was changed."""
    config = {
        "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}],
        "users": [{"name": "u", "user": {}}],
        "contexts": [{"name": "m", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "m",
    }
    (tmp_path / "config").write_text(yaml.safe_dump(config))
    platform = {"kind": "kubernetes_nodes", "nodes": ["a"], "kubeconfig": str(tmp_path / "config")}
    service = Service.model_validate({"name": "workers", "platform": platform})
    for action in ACTIONS.values():
        with pytest.raises(Unreachable):
            await action.plan(service, action.Parameters.model_validate({"node": "a"}))


@pytest.mark.parametrize("wrong", ["*", "?*", "", "A", "a/b", "-a"])
def test_a_list_of_nodes_names_some(wrong: str) -> None:
    """The pattern ``*`` alone is refused, because it would allow every node, also nodes of the control plane."""
    with pytest.raises(ValueError, match="nodes"):
        Inventory.model_validate(
            {
                "apiVersion": "remediator/v1",
                "kind": "Inventory",
                "services": {"workers": {"platform": {"kind": "kubernetes_nodes", "nodes": [wrong]}}},
            }
        )


def test_the_deadline_is_part_of_the_timeout_of_the_step() -> None:
    """A longer deadline of the drain gives its call a longer timeout."""
    action = ACTIONS["node.drain"]
    given = action.Parameters.model_validate({"node": "a", "within": "20m"})
    assert action.traits_for(given).timeout == timedelta(minutes=21)
