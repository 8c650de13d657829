"""``node.drain``: Cordon a node and evict its pods, as ``kubectl drain --ignore-daemonsets`` does.

Pods are evicted, never deleted, so that PodDisruptionBudgets hold. Pods of DaemonSets and static pods stay. The action
refuses a node with pods that no controller would create again, or with pods that would lose an emptyDir volume. The
inventory can allow both. Undoing the step uncordons the node; the pods do not move back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from pydantic import Field

from remediator.clients.kubernetes.nodes import Evictable, Nodes
from remediator.core.cost import Cost
from remediator.core.outcome import Outcome
from remediator.core.plan import PlannedCall
from remediator.core.types import PositiveDuration
from remediator.errors import TargetError
from remediator.extensions.actions.base import RUN, Action, EffectStatus, Observation, Result, UndoCall
from remediator.extensions.node_set import NodeParameters, NodeSet
from remediator.playbooks.catalogue import ActionTraits
from remediator.playbooks.facts import Fact
from remediator.playbooks.inventory import Service

_PAUSE = 2.0
"""Seconds between two checks of the pods of the node."""
_MARGIN = timedelta(minutes=1)
"""Time for the last calls, after the deadline of the drain."""
_SHOWN = 10


class DrainParameters(NodeParameters):
    """Parameters of ``node.drain``."""

    within: PositiveDuration = Field(
        default=timedelta(minutes=5),
        description="Time in which all pods must be gone; then the step has failed, and the node stays cordoned.",
    )


class NodeDrain(Action):
    """Cordon a node of a Kubernetes cluster and evict its pods."""

    name = "node.drain"
    Parameters = DrainParameters
    idempotent = True
    reversible = True
    interrupts = True
    measures = ("sole_instance", "ready_instances")
    timeout = timedelta(minutes=6)
    facts = (
        Fact("node", "string", "Name of the node."),
        Fact("evicted", "list", "Pods that were evicted, as namespace/name."),
        Fact("staying", "list", "Pods that stay, each with the reason."),
        Fact("waiting", "list", "Pods that are not gone, each with the reason."),
    )

    def traits_for(self, parameters: DrainParameters) -> ActionTraits:
        return replace(self.declared_traits(), timeout=parameters.within + _MARGIN)

    async def plan(self, service: Service, parameters: DrainParameters) -> PlannedCall:
        nodes = NodeSet.of(service)
        await self.clients.platform_of(service).require_rights(service, self.name)
        async with nodes.connected() as client:
            node = await nodes.one(client, parameters.node)
            nodes.check_may_cordon(node, await nodes.all(client), RUN.get())
            pods = await _divided(nodes, client, parameters.node)
        _refuse_if_kept(pods, parameters.node)
        names = ", ".join(each.name for each in pods.to_evict[:_SHOWN])
        more = f", and {len(pods.to_evict) - _SHOWN} more" if len(pods.to_evict) > _SHOWN else ""
        stay = f"; {len(pods.staying)} stay" if pods.staying else ""
        return PlannedCall(
            text=f"cordon node {parameters.node} and evict its pods",
            arguments={"node": parameters.node},
            pin={"uid": node.metadata.uid},
            undo=f"uncordon node {parameters.node}",
            risk="The pods stop and start on other nodes, if these have room.",
            measurement=f"{len(pods.to_evict)} pods to evict" + (f": {names}{more}" if names else "") + stay,
        )

    async def cost(self, service: Service, parameters: DrainParameters, call: PlannedCall) -> Cost:
        """Count the other nodes of the service that accept pods: each node is one instance of the service."""
        nodes = NodeSet.of(service)
        async with nodes.connected() as client:
            serving = [each for each in await nodes.all(client) if each.ready and not each.cordoned]
        others = [each for each in serving if each.metadata.name != parameters.node]
        return Cost(sole_instance=not others, ready_instances=len(serving))

    async def execute(self, service: Service, parameters: DrainParameters, call: PlannedCall) -> Result:
        nodes, name = NodeSet.of(service), parameters.node
        deadline = asyncio.get_running_loop().time() + parameters.within.total_seconds()
        evicted: list[str] = []
        async with nodes.connected() as client:
            _refuse_if_kept(await _divided(nodes, client, name), name)
            await nodes.cordon(client, name, call.pin["uid"], RUN.get())
            while True:
                pods = await _divided(nodes, client, name)
                if not pods.to_evict and not pods.refused:
                    return Result(Outcome.OK, f"{name}: {len(evicted)} pods evicted", _facts(name, evicted, pods, []))
                waiting = [*pods.refused, *await _evict(client, pods, evicted)]
                if pods.refused or asyncio.get_running_loop().time() >= deadline:
                    text = f"node {name} is not drained, and stays cordoned: {'; '.join(waiting[:_SHOWN])}"
                    return Result(Outcome.FAILED, text, _facts(name, evicted, pods, waiting))
                await asyncio.sleep(_PAUSE)

    def undo_call(self, call: PlannedCall, output: Mapping[str, Any]) -> UndoCall:
        return UndoCall("node.uncordon", {"node": call.arguments["node"]})

    async def observe(
        self, service: Service, parameters: DrainParameters, call: PlannedCall, since: datetime
    ) -> Observation:
        """Read the node and its pods. Evicting again is safe: a pod that is gone is not evicted twice."""
        nodes, name = NodeSet.of(service), parameters.node
        async with nodes.connected() as client:
            node = await nodes.one(client, name)
            pods = await _divided(nodes, client, name)
        facts = {"cordoned": node.cordoned, "pods": [each.name for each in pods.to_evict][:_SHOWN]}
        if not node.cordoned:
            return Observation(EffectStatus.NO, f"node {name} is not cordoned", facts)
        if pods.to_evict or pods.refused:
            left = len(pods.to_evict) + len(pods.refused)
            return Observation(EffectStatus.UNKNOWN, f"node {name} is cordoned and has {left} pods", facts)
        return Observation(EffectStatus.YES, f"node {name} is cordoned and drained", facts)


async def _divided(nodes: NodeSet, client: Nodes, name: str) -> Evictable:
    return await client.divide(
        await client.pods_on(name),
        evict_unmanaged=nodes.binding.evict_unmanaged,
        delete_local_data=nodes.binding.delete_local_data,
    )


def _refuse_if_kept(pods: Evictable, name: str) -> None:
    """Refuse to drain a node with pods that must not be evicted, as kubectl does before it evicts any."""
    if pods.refused:
        raise TargetError(f"cannot drain node {name}: {'; '.join(pods.refused[:_SHOWN])}")


async def _evict(client: Nodes, pods: Evictable, evicted: list[str]) -> list[str]:
    """Evict the pods that are not being deleted. Return the remaining pods, each with the reason."""
    waiting = []
    for pod in pods.to_evict:
        if pod.metadata.deletion_timestamp is not None:
            waiting.append(f"{pod.name}: it has not ended")
        elif refusal := await client.evict(pod):
            waiting.append(f"{pod.name}: {refusal}")
        else:
            evicted.append(pod.name)
            waiting.append(f"{pod.name}: it has not ended")
    return waiting


def _facts(name: str, evicted: list[str], pods: Evictable, waiting: list[str]) -> dict[str, Any]:
    return {"node": name, "evicted": evicted, "staying": list(pods.staying), "waiting": waiting}
