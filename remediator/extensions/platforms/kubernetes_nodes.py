"""Manage nodes of a cluster: their state here; the actions ``node.cordon``, ``node.uncordon`` and ``node.drain``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from remediator.clients.kubernetes import rights
from remediator.clients.kubernetes.events import ObjectEvent, ObjectReference
from remediator.clients.kubernetes.nodes import RIGHTS, Node
from remediator.core.plan import PlannedCall
from remediator.errors import TargetError
from remediator.extensions.node_set import NodeSet
from remediator.extensions.platforms.base import Platform, ServiceStatus, State
from remediator.playbooks.inventory import Service

_PROBLEMS = ("MemoryPressure", "DiskPressure", "PIDPressure", "NetworkUnavailable")


class KubernetesNodesPlatform(Platform):
    """Services that are nodes of a Kubernetes cluster."""

    kind = "kubernetes_nodes"

    @classmethod
    def unsupported(cls) -> frozenset[str]:
        return super().unsupported() | {"service.restart", "service.logs"}

    async def missing_rights(self, service: Service, action: str) -> tuple[str, ...]:
        """Return the rights that the account lacks. Rights on single nodes are checked for each listed name."""
        nodes = NodeSet.of(service)
        patterns = any(set(each) & set("*?") for each in nodes.binding.nodes)
        missing: list[str] = []
        async with nodes.connected() as client:
            for name in ("",) if patterns else nodes.binding.nodes:
                missing += await rights.lacking(client, RIGHTS.get(action, ()), name)
        return tuple(dict.fromkeys(missing))

    async def write_event(self, service: Service, call: PlannedCall, event: ObjectEvent) -> None:
        """Write an Event on the node of the call. Events of nodes are in the namespace ``default``."""
        name, uid = call.arguments.get("node"), call.pin.get("uid")
        if name is not None and uid is not None:
            async with NodeSet.of(service).connected() as client:
                await client.write_event(ObjectReference("v1", "Node", str(name), str(uid)), event)

    async def status(self, service: Service) -> ServiceStatus:
        nodes = NodeSet.of(service)
        async with nodes.connected() as client:
            found = await nodes.all(client)
        if not found:
            raise TargetError(f"the cluster has no node of {service.name}: {', '.join(nodes.binding.nodes)}")
        serving = [each for each in found if each.ready and not each.cordoned]
        state = State.RUNNING if len(serving) == len(found) else State.MIXED if serving else State.EXITED
        summary = f"{len(serving)} of {len(found)} nodes take pods"
        return ServiceStatus(
            state=state,
            summary="; ".join([*(text for each in found if (text := _trouble(each))), summary]),
            instances=len(found),
            healthy=len(serving),
            pin={"nodes": {each.metadata.name: each.metadata.uid for each in found}},
            facts={"nodes": [_facts(each) for each in found]},
        )

    async def logs(self, service: Service, lines: int, *, previous: bool = False) -> str:
        raise TargetError(f"{service.name} are nodes; Kubernetes has no logs of nodes")

    def describe_restart(self, service: Service, stop_timeout: float) -> str:
        raise TargetError(f"{service.name} are nodes, which Kubernetes cannot restart; use node.drain")

    async def restart(self, service: Service, pin: Mapping[str, Any], stop_timeout: float) -> None:
        raise TargetError(f"{service.name} are nodes, which Kubernetes cannot restart; use node.drain")


def _trouble(node: Node) -> str:
    name, problems = node.metadata.name, []
    for each in node.status.conditions:
        if each.type == "Ready" and each.status != "True":
            problems.append(f"not ready ({each.reason}: {each.message[:200]})")
        if each.type in _PROBLEMS and each.status == "True":
            problems.append(each.type)
    if node.cordoned:
        problems.append(f"cordoned by {node.cordoned_by or 'a person or another program'}")
    return f"{name}: {', '.join(problems)}" if problems else ""


def _facts(node: Node) -> dict[str, Any]:
    return {
        "name": node.metadata.name,
        "ready": node.ready,
        "cordoned": node.cordoned,
        "cordoned_by": node.cordoned_by,
        "conditions": {each.type: each.status for each in node.status.conditions},
    }
