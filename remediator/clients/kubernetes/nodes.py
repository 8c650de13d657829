"""Nodes of a cluster: state, cordon, the pods on a node, and evictions, which respect PodDisruptionBudgets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from remediator.clients.http import Part
from remediator.clients.kubernetes.client import Kubernetes, KubernetesRefused
from remediator.clients.kubernetes.conflicts import Conflict
from remediator.clients.kubernetes.kubeconfig import Access
from remediator.clients.kubernetes.models import Condition, Meta
from remediator.clients.kubernetes.rights import Right

CORDONED_BY = "remediator.cordoned-by"
"""Annotation of a node that the remediator cordoned: the ID of the run."""
_LOOK = (Right("list", "", "nodes"),)
_CHANGE = (*_LOOK, Right("get", "", "nodes", named=True), Right("patch", "", "nodes", named=True))
RIGHTS: Mapping[str, tuple[Right, ...]] = {
    "service.status": _LOOK,
    "node.cordon": _CHANGE,
    "node.uncordon": _CHANGE,
    "node.drain": (
        *_CHANGE,
        Right("list", "", "pods"),
        Right("create", "", "pods", "eviction"),
        Right("get", "apps", "daemonsets"),
    ),
}
"""Required rights in the whole cluster, by action."""
_MIRROR = "kubernetes.io/config.mirror"
_ENDED = ("Succeeded", "Failed")


class _NodeSpec(Part, frozen=True, kw_only=True, rename="camel"):
    unschedulable: bool = False


class _NodeStatus(Part, frozen=True, kw_only=True, rename="camel"):
    conditions: tuple[Condition, ...] = ()


class Node(Part, frozen=True, kw_only=True, rename="camel"):
    """One node."""

    metadata: Meta
    spec: _NodeSpec = _NodeSpec()
    status: _NodeStatus = _NodeStatus()

    @property
    def ready(self) -> bool:
        """Whether the node has the condition Ready."""
        return any(each.type == "Ready" and each.status == "True" for each in self.status.conditions)

    @property
    def cordoned(self) -> bool:
        """Whether no new pods are scheduled to it."""
        return self.spec.unschedulable

    @property
    def cordoned_by(self) -> str:
        """The run of the remediator that cordoned it; empty if a person or another program did."""
        return self.metadata.annotations.get(CORDONED_BY, "") if self.cordoned else ""


class _Volume(Part, frozen=True, kw_only=True, rename="camel"):
    empty_dir: dict[str, Any] | None = None


class _PlacedSpec(Part, frozen=True, kw_only=True, rename="camel"):
    volumes: tuple[_Volume, ...] = ()


class _PlacedStatus(Part, frozen=True, kw_only=True, rename="camel"):
    phase: str = ""


class PlacedPod(Part, frozen=True, kw_only=True, rename="camel"):
    """A pod on a node, with the facts that decide whether it may be evicted."""

    metadata: Meta
    spec: _PlacedSpec = _PlacedSpec()
    status: _PlacedStatus = _PlacedStatus()

    @property
    def name(self) -> str:
        """Namespace and name."""
        return f"{self.metadata.namespace}/{self.metadata.name}"


@dataclass(frozen=True, slots=True)
class Evictable:
    """The pods of a node, divided as ``kubectl drain`` does."""

    to_evict: tuple[PlacedPod, ...]
    staying: tuple[str, ...]
    """Pods that stay, with the reason: pods of DaemonSets, and static pods."""
    refused: tuple[str, ...]
    """Pods that must not be evicted without a setting, with the reason."""


class Nodes(Kubernetes):
    """A client of the nodes of a cluster and of the pods on them. Raises what `Kubernetes` raises."""

    def __init__(self, access: Access) -> None:
        super().__init__(access)
        self.namespace = ""  # check the rights for the whole cluster

    async def nodes(self) -> tuple[Node, ...]:
        """Return all nodes."""
        return await self._list_at("/api/v1/nodes", Node, {})

    async def node(self, name: str) -> Node:
        """Return one node."""
        return (await self._call("GET", _node_path(name))).json(Node)

    async def set_cordoned(self, node: Node, run: str | None) -> None:
        """Cordon a node for a run, or with None uncordon it. The API server compares the version that was read.

        Raises:
            Conflict: the node was changed since; nothing was changed.
        """
        metadata = {"resourceVersion": node.metadata.resource_version, "annotations": {CORDONED_BY: run}}
        patch = {"metadata": metadata, "spec": {"unschedulable": True if run is not None else None}}
        await self._patch(_node_path(node.metadata.name), patch, "merge")

    async def pods_on(self, node: str) -> tuple[PlacedPod, ...]:
        """Return the pods on a node, in all namespaces."""
        return await self._list_at("/api/v1/pods", PlacedPod, {"fieldSelector": f"spec.nodeName={node}"})

    async def evict(self, pod: PlacedPod) -> str:
        """Evict exactly this pod. Return an empty text, or the reason why a PodDisruptionBudget does not allow it now.

        A pod that is gone already, or was replaced by another pod with its name, counts as evicted.
        """
        try:
            await self.evict_pod(pod.metadata.name, pod.metadata.uid, pod.metadata.namespace)
        except Conflict:
            return ""
        except KubernetesRefused as error:
            if error.status == 429:
                return str(error)
            if error.status != 404:
                raise
        return ""

    async def daemon_set_exists(self, namespace: str, name: str) -> bool:
        """Return whether this DaemonSet exists, so that its pods would be created again on the same node."""
        try:
            await self._call("GET", f"/apis/apps/v1/namespaces/{namespace}/daemonsets/{name}")
        except KubernetesRefused as error:
            if error.status != 404:
                raise
            return False
        return True

    async def divide(self, pods: Sequence[PlacedPod], *, evict_unmanaged: bool, delete_local_data: bool) -> Evictable:
        """Divide the pods of a node as ``kubectl drain --ignore-daemonsets`` does.

        Args:
            pods: all pods of the node.
            evict_unmanaged: as ``--force``: also pods that no controller creates again.
            delete_local_data: as ``--delete-emptydir-data``: also pods with an emptyDir volume.
        """
        to_evict: list[PlacedPod] = []
        staying: list[str] = []
        refused: list[str] = []
        for pod in sorted(pods, key=lambda each: each.name):
            owner, ended = pod.metadata.controller, pod.status.phase in _ENDED
            if _MIRROR in pod.metadata.annotations:
                staying.append(f"{pod.name} (static pod of the node)")
            elif ended:
                to_evict.append(pod)
            elif owner is not None and owner.kind == "DaemonSet":
                if await self.daemon_set_exists(pod.metadata.namespace, owner.name):
                    staying.append(f"{pod.name} (DaemonSet {owner.name})")
                elif evict_unmanaged:
                    to_evict.append(pod)
                else:
                    refused.append(f"{pod.name}: its DaemonSet {owner.name} does not exist")
            elif owner is None and not evict_unmanaged:
                refused.append(f"{pod.name}: no controller would create it again (evict_unmanaged)")
            elif not delete_local_data and any(each.empty_dir is not None for each in pod.spec.volumes):
                refused.append(f"{pod.name}: the data of its emptyDir volume would be lost (delete_local_data)")
            else:
                to_evict.append(pod)
        return Evictable(tuple(to_evict), tuple(staying), tuple(refused))


def _node_path(name: str) -> str:
    return f"/api/v1/nodes/{quote(name, safe='')}"
