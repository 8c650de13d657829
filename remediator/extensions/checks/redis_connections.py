"""``redis.connections``: Check that Redis accepts more clients, and report the holders of the connections.

A Redis that has reached maxclients rejects our connection too. The kernel of the host then still knows the addresses
and the idle time of each connection.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from pydantic import Field

from remediator.clients.host import sockets
from remediator.clients.redis.connection import RedisRefused, RedisState
from remediator.core.listen import is_loopback
from remediator.core.types import Duration
from remediator.errors import RemediatorError
from remediator.extensions import bindings
from remediator.extensions.checks.base import Check, CheckAnswer, Evidence
from remediator.extensions.parameters import Parameters
from remediator.playbooks.facts import Fact
from remediator.playbooks.inventory import Service

_SHOWN = 3


class RedisConnectionsParameters(Parameters):
    """Parameters of ``redis.connections``."""

    max_percent: int = Field(default=90, ge=1, le=100, description="More clients, in percent of maxclients, fail.")
    idle_over: Duration = Field(
        default=timedelta(minutes=5), description="Connections that were idle for longer are counted as idle."
    )


class RedisConnections(Check):
    """Compare the number of clients with maxclients, and group the clients by address."""

    name = "redis.connections"
    needs = ("redis",)
    Parameters = RedisConnectionsParameters
    facts = (
        Fact("clients", "integer", "Open connections."),
        Fact("maxclients", "integer", "Limit of Redis; null if Redis rejects our connection."),
        Fact("idle", "integer", "Connections that were idle for longer than idle_over."),
        Fact("rejected", "boolean", "Whether Redis rejects further connections."),
        Fact("by_address", "list", "Clients by address, most first: address, connections and seconds idle."),
    )

    async def observe(self, service: Service, parameters: RedisConnectionsParameters) -> Evidence:
        redis = bindings.redis(service)
        try:
            clients = await redis.clients()
            limit = int(await redis.config_get("maxclients"))
            seen = [(client.address, client.idle) for client in clients]
        except RedisRefused as error:
            if error.state is not RedisState.TOO_MANY_CLIENTS:
                raise
            return await self._of_kernel(service, parameters)
        facts = _facts(seen, parameters, limit, rejected=False)
        well = len(seen) * 100 <= limit * parameters.max_percent
        return Evidence(CheckAnswer.OK if well else CheckAnswer.FAIL, _summary(facts), facts)

    async def _of_kernel(self, service: Service, parameters: RedisConnectionsParameters) -> Evidence:
        assert service.redis is not None, "the caller checked it"
        full = "Redis rejects further clients (maxclients)"
        if service.redis.sentinel is not None or not is_loopback(service.redis.host):
            return Evidence(CheckAnswer.FAIL, f"{full}; their addresses cannot be seen from here", {"rejected": True})
        try:
            found = await sockets.connections(service.redis.port)
        except RemediatorError as error:
            return Evidence(CheckAnswer.FAIL, f"{full}; their addresses are unknown: {error}", {"rejected": True})
        facts = _facts([(each.peer, each.idle) for each in found], parameters, None, rejected=True)
        return Evidence(CheckAnswer.FAIL, f"{full}: {_summary(facts)}", facts)


def _facts(
    seen: Sequence[tuple[str, timedelta]], parameters: RedisConnectionsParameters, limit: int | None, *, rejected: bool
) -> dict[str, Any]:
    idle: dict[str, list[float]] = {}
    for peer, time in seen:
        idle.setdefault(peer.rpartition(":")[0] or peer, []).append(time.total_seconds())
    ordered = sorted(idle.items(), key=lambda item: -len(item[1]))
    return {
        "clients": len(seen),
        "maxclients": limit,
        "idle": sum(1 for _, time in seen if time > parameters.idle_over),
        "rejected": rejected,
        "by_address": [
            {"address": address, "connections": len(times), "idle_most": max(times), "idle_least": min(times)}
            for address, times in ordered
        ],
    }


def _summary(facts: dict[str, Any]) -> str:
    of = "" if facts["maxclients"] is None else f" of {facts['maxclients']}"
    parts = [
        f"{each['connections']} from {each['address']} (idle {each['idle_least']:.0f} to {each['idle_most']:.0f} s)"
        for each in facts["by_address"][:_SHOWN]
    ]
    return f"{facts['clients']}{of} connections, {facts['idle']} of them idle: {', '.join(parts)}"
