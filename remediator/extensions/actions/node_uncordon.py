"""``node.uncordon``: Let Kubernetes schedule pods again on a node that remediator cordoned.

A node that a person or another program cordoned is refused.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from remediator.core.outcome import Outcome
from remediator.core.plan import PlannedCall
from remediator.extensions.actions.base import Action, EffectStatus, Observation, Result
from remediator.extensions.node_set import NodeParameters, NodeSet, check_may_uncordon
from remediator.playbooks.facts import Fact
from remediator.playbooks.inventory import Service


class NodeUncordon(Action):
    """Uncordon a node that the remediator cordoned."""

    name = "node.uncordon"
    Parameters = NodeParameters
    idempotent = True
    timeout = timedelta(seconds=60)
    facts = (Fact("node", "string", "Name of the node."),)

    async def plan(self, service: Service, parameters: NodeParameters) -> PlannedCall:
        nodes = NodeSet.of(service)
        await self.clients.platform_of(service).require_rights(service, self.name)
        async with nodes.connected() as client:
            node = await nodes.one(client, parameters.node)
        check_may_uncordon(node)
        return PlannedCall(
            text=f"uncordon node {parameters.node}",
            arguments={"node": parameters.node},
            pin={"uid": node.metadata.uid, "cordoned_by": node.cordoned_by},
        )

    async def execute(self, service: Service, parameters: NodeParameters, call: PlannedCall) -> Result:
        nodes = NodeSet.of(service)
        async with nodes.connected() as client:
            await nodes.uncordon(client, parameters.node, call.pin["uid"])
        return Result(Outcome.OK, f"node {parameters.node} is uncordoned", {"node": parameters.node})

    async def observe(
        self, service: Service, parameters: NodeParameters, call: PlannedCall, since: datetime
    ) -> Observation:
        """Read the node."""
        nodes = NodeSet.of(service)
        async with nodes.connected() as client:
            node = await nodes.one(client, parameters.node)
        if node.cordoned:
            return Observation(EffectStatus.NO, f"node {parameters.node} is cordoned")
        return Observation(EffectStatus.YES, f"node {parameters.node} is not cordoned")
