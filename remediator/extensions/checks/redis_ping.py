"""``redis.ping``: Check that Redis answers and has finished loading."""

from __future__ import annotations

from remediator.clients.redis.client import Redis
from remediator.extensions.checks.base import Check, CheckAnswer, Evidence
from remediator.extensions.parameters import Parameters
from remediator.playbooks.inventory import Service


class RedisPing(Check):
    """Send PING to Redis, and check that it has finished loading."""

    name = "redis.ping"

    async def observe(self, service: Service, parameters: Parameters) -> Evidence:
        if service.redis is None:
            return Evidence(CheckAnswer.UNKNOWN, f"service {service.name!r} has no 'redis' in the inventory")
        health = await Redis(service.redis).health()
        facts = {"state": health.state.value, "version": health.version, "role": health.role}
        summary = f"Redis: {health.state.value}" + ("" if health.ok else f" ({health.detail})")
        return Evidence(CheckAnswer.OK if health.ok else CheckAnswer.FAIL, summary, facts)
