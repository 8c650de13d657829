"""``elasticache.describe``: Read the state of an ElastiCache replication group: status, node type, shards and
primary nodes.
"""

from __future__ import annotations

from datetime import timedelta

import msgspec

from remediator.core.outcome import Outcome
from remediator.core.plan import PlannedCall
from remediator.extensions import bindings
from remediator.extensions.actions.base import Action, Result
from remediator.extensions.parameters import Parameters
from remediator.playbooks.facts import Fact
from remediator.playbooks.inventory import Service

_FACTS = {
    "status": "Status",
    "node_type": "CacheNodeType",
    "automatic_failover": "AutomaticFailover",
    "multi_az": "MultiAZ",
    "cluster_mode": "ClusterEnabled",
    "shards": "NodeGroups",
}


class ElasticacheDescribe(Action):
    """Read the state of an ElastiCache replication group. Read-only."""

    name = "elasticache.describe"
    needs = ("elasticache",)
    mutates = False
    idempotent = True
    timeout = timedelta(seconds=30)
    facts = (
        Fact("status", "string", "Status of the group, for example available."),
        Fact("node_type", "string", "Node type."),
        Fact("automatic_failover", "string", "State of automatic failover."),
        Fact("multi_az", "string", "State of Multi-AZ."),
        Fact("cluster_mode", "boolean", "Whether cluster mode is enabled."),
        Fact("shards", "list", "Shards with their nodes."),
    )

    async def plan(self, service: Service, parameters: Parameters) -> PlannedCall:
        return PlannedCall(text=f"describe {bindings.elasticache(service).name}")

    async def execute(self, service: Service, parameters: Parameters, call: PlannedCall) -> Result:
        groups = bindings.elasticache(service)
        found = await groups.describe()
        outcome = Outcome.OK if found.status == "available" else Outcome.FAILED
        roles = [f"{each.node_group_id} {each.primary or 'primary unknown'}" for each in found.node_groups]
        summary = f"{groups.name}: {found.status}, {found.cache_node_type}; {', '.join(roles) or 'no shard'}"
        facts = msgspec.to_builtins(found)
        return Result(outcome, summary, {name: facts[key] for name, key in _FACTS.items()})
