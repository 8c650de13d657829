"""``elasticache.test_failover``: Promote a replica of an ElastiCache shard to primary.

AWS offers this call for tests. It does what AWS does when a primary fails, so it also replaces an unhealthy
primary.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from pydantic import Field

from remediator.clients.aws.elasticache import NodeGroup, ReplicationGroup
from remediator.core.outcome import Outcome
from remediator.core.plan import PlannedCall
from remediator.errors import TargetError
from remediator.extensions import bindings
from remediator.extensions.actions.base import Action, EffectStatus, Observation, Result
from remediator.extensions.clientset import ClientSet
from remediator.extensions.parameters import Parameters
from remediator.playbooks.inventory import Service

_NOTED = "test failover api called"
"""How ElastiCache begins the event that names the shard."""


class FailoverParameters(Parameters):
    """Which shard."""

    node_group: str | None = Field(
        default=None, pattern=r"^[0-9]{1,4}$", description="ID of the shard, for example 0001; default: the only shard."
    )


class ElasticacheTestFailover(Action):
    """Fail an ElastiCache shard over to one of its replicas."""

    name = "elasticache.test_failover"
    Parameters = FailoverParameters
    timeout = timedelta(seconds=60)

    def __init__(self, world: ClientSet) -> None:
        """It talks to the service's ElastiCache."""

    async def plan(self, service: Service, parameters: FailoverParameters) -> PlannedCall:
        groups = bindings.elasticache(service)
        found = await groups.describe()
        shard = _shard(groups.name, found, parameters.node_group)
        _ready(groups.name, found, shard)
        return PlannedCall(
            text=f"{groups.name}: TestFailover of shard {shard.node_group_id} (primary {shard.primary or 'not told'})",
            arguments={"node_group": shard.node_group_id},
            pin={"primary": shard.primary},
            risk="Writes fail while a replica takes over, and what it had not yet received is lost.",
        )

    async def execute(self, service: Service, parameters: FailoverParameters, call: PlannedCall) -> Result:
        groups = bindings.elasticache(service)
        found = await groups.describe()
        shard = _shard(groups.name, found, str(call.arguments["node_group"]))
        _ready(groups.name, found, shard)
        if {"primary": shard.primary} != dict(call.pin):
            raise TargetError(f"{groups.name}: {shard.primary} is primary by now: somebody or something was faster")
        await groups.test_failover(shard.node_group_id)
        return Result(
            Outcome.OK, f"{groups.name}: shard {shard.node_group_id} fails over", {"was_primary": shard.primary}
        )

    async def observe(
        self, service: Service, parameters: FailoverParameters, call: PlannedCall, since: datetime
    ) -> Observation:
        """ElastiCache notes who called for it; another primary says it too. That it was not done, nothing says: notes
        come late."""
        groups = bindings.elasticache(service)
        node_group = str(call.arguments["node_group"])
        noted = [each.message for each in await groups.events(since) if each.message.lower().startswith(_NOTED)]
        if any(message.rstrip(".").endswith(node_group) for message in noted):
            return Observation(EffectStatus.YES, f"{groups.name} noted the call", {"events": noted})
        found = await groups.describe()
        primary = _shard(groups.name, found, node_group).primary
        facts = {"primary": primary, "status": found.status}
        if primary is not None and primary != call.pin["primary"]:
            return Observation(EffectStatus.YES, f"{groups.name}: {primary} is primary now", facts)
        return Observation(EffectStatus.CANNOT_TELL, f"{groups.name}: {found.status}, nothing noted yet", facts)


def _shard(name: str, found: ReplicationGroup, wanted: str | None) -> NodeGroup:
    shards = [each for each in found.node_groups if wanted in (None, each.node_group_id)]
    if len(shards) != 1:
        there = ", ".join(each.node_group_id for each in found.node_groups) or "none"
        raise TargetError(f"{name}: exactly one shard has to be meant; give node_group; there are: {there}")
    return shards[0]


def _ready(name: str, found: ReplicationGroup, shard: NodeGroup) -> None:
    if found.status != "available":
        raise TargetError(f"{name} is {found.status}; it fails over only when available")
    if found.automatic_failover.lower() != "enabled" or len(shard.node_group_members) < 2:
        raise TargetError(f"{name}: automatic failover is off, or shard {shard.node_group_id} has no replica")
