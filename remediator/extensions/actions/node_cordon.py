"""``node.cordon``: Let Kubernetes schedule no new pods to a node, within the limit of the inventory.

The node gets the ID of the run as an annotation. Undoing the step uncordons it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from remediator.core.outcome import Outcome
from remediator.core.plan import PlannedCall
from remediator.extensions.actions.base import RUN, Action, EffectStatus, Observation, Result, UndoCall
from remediator.extensions.node_set import NodeParameters, NodeSet
from remediator.playbooks.facts import Fact
from remediator.playbooks.inventory import Service


class NodeCordon(Action):
    """Cordon a node of a Kubernetes cluster."""

    name = "node.cordon"
    Parameters = NodeParameters
    idempotent = True
    reversible = True
    timeout = timedelta(seconds=60)
    facts = (Fact("node", "string", "Name of the node."),)

    async def plan(self, service: Service, parameters: NodeParameters) -> PlannedCall:
        nodes = NodeSet.of(service)
        await self.clients.platform_of(service).require_rights(service, self.name)
        async with nodes.connected() as client:
            node = await nodes.one(client, parameters.node)
            nodes.check_may_cordon(node, await nodes.all(client), RUN.get())
        return PlannedCall(
            text=f"cordon node {parameters.node}",
            arguments={"node": parameters.node},
            pin={"uid": node.metadata.uid},
            undo=f"uncordon node {parameters.node}",
            risk="New pods find less room until the node is uncordoned.",
        )

    async def execute(self, service: Service, parameters: NodeParameters, call: PlannedCall) -> Result:
        nodes = NodeSet.of(service)
        async with nodes.connected() as client:
            await nodes.cordon(client, parameters.node, call.pin["uid"], RUN.get())
        return Result(Outcome.OK, f"node {parameters.node} is cordoned", {"node": parameters.node})

    def undo_call(self, call: PlannedCall, output: Mapping[str, Any]) -> UndoCall:
        return UndoCall("node.uncordon", {"node": call.arguments["node"]})

    async def observe(
        self, service: Service, parameters: NodeParameters, call: PlannedCall, since: datetime
    ) -> Observation:
        """Read the node and its annotation."""
        nodes = NodeSet.of(service)
        async with nodes.connected() as client:
            node = await nodes.one(client, parameters.node)
        if node.cordoned_by and node.cordoned_by == RUN.get():
            return Observation(EffectStatus.YES, f"node {parameters.node} is cordoned by this run")
        state = f"cordoned by {node.cordoned_by or 'someone else'}" if node.cordoned else "not cordoned"
        return Observation(EffectStatus.NO, f"node {parameters.node} is {state}")
