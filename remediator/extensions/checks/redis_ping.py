"""``redis.ping``: Check that Redis answers and has finished loading."""

from __future__ import annotations

from remediator.clients.redis.client import Redis
from remediator.clients.redis.connection import RedisState
from remediator.extensions.checks.base import Check, CheckAnswer, Evidence
from remediator.extensions.parameters import Parameters
from remediator.playbooks.facts import Fact
from remediator.playbooks.inventory import Service


class RedisPing(Check):
    """Send PING to Redis, and check that it has finished loading."""

    name = "redis.ping"
    facts = (
        Fact("state", "string", "State of the server.", values=tuple(RedisState)),
        Fact("version", "string", "Version of the server; empty if unknown."),
        Fact("role", "string", "Replication role; empty if unknown.", values=("", "master", "replica")),
    )

    async def observe(self, service: Service, parameters: Parameters) -> Evidence:
        if service.redis is None:
            return Evidence(CheckAnswer.UNKNOWN, f"service {service.name!r} has no 'redis' in the inventory")
        health = await Redis(service.redis).health()
        facts = {"state": health.state.value, "version": health.version, "role": health.role}
        summary = f"Redis: {health.state.value}" + ("" if health.ok else f" ({health.detail})")
        if health.state is RedisState.UNASKED:  # our own files; they say nothing about Redis
            return Evidence(CheckAnswer.UNKNOWN, summary, facts)
        return Evidence(CheckAnswer.OK if health.ok else CheckAnswer.FAIL, summary, facts)
