"""``elasticache.modify_node_type``: Change the node type of an ElastiCache replication group.

The change costs money and takes many minutes, so it requires approval each time, also in mode auto. AWS refuses node
types that the group cannot change to.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from pydantic import Field

from remediator.core.cost import Cost
from remediator.core.outcome import Outcome
from remediator.core.plan import PlannedCall
from remediator.errors import TargetError
from remediator.extensions import bindings, costs
from remediator.extensions.actions.base import Action, EffectStatus, Observation, Result, UndoCall
from remediator.extensions.parameters import Parameters
from remediator.playbooks.facts import Fact
from remediator.playbooks.inventory import Service


class NodeTypeParameters(Parameters):
    """Parameters of ``elasticache.modify_node_type``."""

    node_type: str = Field(
        pattern=r"^cache\.[a-z0-9-]+\.[a-z0-9]+$", description="Node type for all nodes, for example cache.r7g.large."
    )


class ElasticacheModifyNodeType(Action):
    """Change the node type of an ElastiCache replication group. Always requires approval."""

    name = "elasticache.modify_node_type"
    needs = ("elasticache",)
    Parameters = NodeTypeParameters
    interrupts = True
    measures = ("unreplicated_bytes", "clients")
    reversible = True
    requires_approval = True
    timeout = timedelta(seconds=60)
    facts = (
        Fact("from", "string", "Node type before the action."),
        Fact("to", "string", "Requested node type."),
    )

    async def plan(self, service: Service, parameters: NodeTypeParameters) -> PlannedCall:
        groups = bindings.elasticache(service)
        found = await groups.describe()
        old, new = found.cache_node_type, parameters.node_type
        if found.status != "available":
            raise TargetError(f"{groups.name} is {found.status}; it can be modified only when available")
        if old == new:
            raise TargetError(f"{groups.name} already has nodes of type {new}")
        return PlannedCall(
            text=f"{groups.name}: ModifyReplicationGroup, CacheNodeType from {old} to {new}, immediately",
            arguments={"from": old, "to": new},
            pin={"node_type": old},
            undo=f"change the node type back to {old}",
            risk="The price changes. Connections break at the end. A smaller type evicts keys that do not fit.",
        )

    async def cost(self, service: Service, parameters: NodeTypeParameters, call: PlannedCall) -> Cost:
        return await costs.replication(self.clients, service)

    async def execute(self, service: Service, parameters: NodeTypeParameters, call: PlannedCall) -> Result:
        groups = bindings.elasticache(service)
        found = await groups.describe()
        if {"node_type": found.cache_node_type} != dict(call.pin) or found.status != "available":
            raise TargetError(
                f"{groups.name} is {found.status} with {found.cache_node_type}, which differs from the plan; "
                "nothing was changed"
            )
        await groups.modify_node_type(str(call.arguments["to"]))
        return Result(Outcome.OK, f"{groups.name} is changing to {call.arguments['to']}", dict(call.arguments))

    def undo_call(self, call: PlannedCall, output: Mapping[str, Any]) -> UndoCall:
        return UndoCall(self.name, {"node_type": call.arguments["from"]})

    async def observe(
        self, service: Service, parameters: NodeTypeParameters, call: PlannedCall, since: datetime
    ) -> Observation:
        """Read the node type. The new type means done; the old type on an available group means not started."""
        groups = bindings.elasticache(service)
        found = await groups.describe()
        facts = {"status": found.status, "node_type": found.cache_node_type}
        summary = f"{groups.name} is {found.status} with {found.cache_node_type}"
        if found.cache_node_type == call.arguments["to"]:
            return Observation(EffectStatus.YES, summary, facts)
        if found.cache_node_type == call.arguments["from"] and found.status == "available":
            return Observation(EffectStatus.NO, summary, facts)
        return Observation(EffectStatus.UNKNOWN, summary, facts)
