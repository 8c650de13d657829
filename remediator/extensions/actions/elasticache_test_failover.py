"""``elasticache.test_failover``: Promote a replica of an ElastiCache shard to primary.

AWS offers this call for tests. AWS does the same when a primary fails, so this action also replaces an unhealthy
primary.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from pydantic import Field

from remediator.clients.aws.elasticache import NodeGroup, ReplicationGroup
from remediator.core.cost import Cost
from remediator.core.outcome import Outcome
from remediator.core.plan import PlannedCall
from remediator.errors import TargetError
from remediator.extensions import bindings, costs
from remediator.extensions.actions.base import Action, EffectStatus, Observation, Result
from remediator.extensions.parameters import Parameters
from remediator.playbooks.facts import Fact
from remediator.playbooks.inventory import Service

_NOTED = "test failover api called"
"""First words of the ElastiCache event that names the shard, in lower case."""


class FailoverParameters(Parameters):
    """Parameters of ``elasticache.test_failover``."""

    node_group: str | None = Field(
        default=None, pattern=r"^[0-9]{1,4}$", description="ID of the shard, for example 0001; default: the only shard."
    )


class ElasticacheTestFailover(Action):
    """Promote a replica of an ElastiCache shard to primary."""

    name = "elasticache.test_failover"
    needs = ("elasticache",)
    Parameters = FailoverParameters
    interrupts = True
    measures = ("unreplicated_bytes", "clients")
    timeout = timedelta(seconds=60)
    facts = (Fact("was_primary", "string", "Primary node before; null if unknown."),)

    async def plan(self, service: Service, parameters: FailoverParameters) -> PlannedCall:
        groups = bindings.elasticache(service)
        found = await groups.describe()
        shard = _shard(groups.name, found, parameters.node_group)
        _ready(groups.name, found, shard)
        return PlannedCall(
            text=f"{groups.name}: TestFailover of shard {shard.node_group_id} (primary {shard.primary or 'unknown'})",
            arguments={"node_group": shard.node_group_id},
            pin={"primary": shard.primary},
            risk="Writes fail during the failover. Writes that the replica has not received are lost.",
        )

    async def cost(self, service: Service, parameters: FailoverParameters, call: PlannedCall) -> Cost:
        return await costs.replication(self.clients, service)

    async def execute(self, service: Service, parameters: FailoverParameters, call: PlannedCall) -> Result:
        groups = bindings.elasticache(service)
        found = await groups.describe()
        shard = _shard(groups.name, found, str(call.arguments["node_group"]))
        _ready(groups.name, found, shard)
        if {"primary": shard.primary} != dict(call.pin):
            raise TargetError(f"{groups.name}: {shard.primary} became primary after planning; nothing was changed")
        await groups.test_failover(shard.node_group_id)
        return Result(
            Outcome.OK,
            f"{groups.name}: failover of shard {shard.node_group_id} started",
            {"was_primary": shard.primary},
        )

    async def observe(
        self, service: Service, parameters: FailoverParameters, call: PlannedCall, since: datetime
    ) -> Observation:
        """Search the events for the call, and compare the primary.

        The result is never *no*, because events arrive late.
        """
        groups = bindings.elasticache(service)
        node_group = str(call.arguments["node_group"])
        noted = [each.message for each in await groups.events(since) if each.message.lower().startswith(_NOTED)]
        if any(message.rstrip(".").endswith(node_group) for message in noted):
            return Observation(EffectStatus.YES, f"{groups.name} has an event for the call", {"events": noted})
        found = await groups.describe()
        primary = _shard(groups.name, found, node_group).primary
        facts = {"primary": primary, "status": found.status}
        if primary is not None and primary != call.pin["primary"]:
            return Observation(EffectStatus.YES, f"{groups.name}: {primary} is the primary now", facts)
        return Observation(
            EffectStatus.UNKNOWN, f"{groups.name} is {found.status}, without an event for the call yet", facts
        )


def _shard(name: str, found: ReplicationGroup, wanted: str | None) -> NodeGroup:
    shards = [each for each in found.node_groups if wanted in (None, each.node_group_id)]
    if len(shards) != 1:
        there = ", ".join(each.node_group_id for each in found.node_groups) or "none"
        raise TargetError(f"{name} does not have exactly one such shard; set 'node_group' to one of: {there}")
    return shards[0]


def _ready(name: str, found: ReplicationGroup, shard: NodeGroup) -> None:
    if found.status != "available":
        raise TargetError(f"{name} is {found.status}; a failover needs the status available")
    if found.automatic_failover.lower() != "enabled" or len(shard.node_group_members) < 2:
        raise TargetError(f"{name}: a failover needs automatic failover and a replica in shard {shard.node_group_id}")
