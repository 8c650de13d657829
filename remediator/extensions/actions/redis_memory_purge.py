"""``redis.memory_purge``: Tell Redis to return unused memory to the operating system."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

from remediator.clients.redis.client import Redis
from remediator.core.outcome import Outcome
from remediator.core.plan import PlannedCall
from remediator.core.sizes import format_size
from remediator.extensions import bindings
from remediator.extensions.actions.base import Action, EffectStatus, Observation, Result
from remediator.extensions.parameters import Parameters
from remediator.playbooks.facts import Fact
from remediator.playbooks.inventory import Service

_LOOK = 0.1
_LOOKS = 10
"""Redis measures its resident memory ten times in a second, so that INFO shows the effect late."""


class RedisMemoryPurge(Action):
    """Return unused Redis memory to the operating system. No data is changed."""

    name = "redis.memory_purge"
    needs = ("redis",)
    idempotent = True
    timeout = timedelta(seconds=30)
    facts = (
        Fact("resident", "integer", "Resident memory after the action.", unit="bytes"),
        Fact("before", "integer", "Resident memory before the action.", unit="bytes"),
    )

    async def plan(self, service: Service, parameters: Parameters) -> PlannedCall:
        info = await bindings.redis(service).info("server", "memory")
        used, resident = info.integer("used_memory"), info.integer("used_memory_rss")
        return PlannedCall(
            text=f"MEMORY PURGE on {service.name}",
            arguments={"resident": resident},
            volatile_fields=("resident",),
            measurement=f"Redis uses {format_size(used)} of {format_size(resident)} resident memory",
            pin={"run_id": info.text("run_id")},
            risk="Redis may not answer for some milliseconds.",
        )

    async def execute(self, service: Service, parameters: Parameters, call: PlannedCall) -> Result:
        redis = bindings.redis(service)
        before = await _resident(redis)
        await redis.memory_purge(expected=str(call.pin["run_id"]))
        now = await _resident(redis)
        for _ in range(_LOOKS):
            if now < before:
                break
            await asyncio.sleep(_LOOK)
            now = await _resident(redis)
        text = f"Redis has {format_size(now)} resident memory (before: {format_size(before)})"
        freed = now < before
        text = text if freed else f"nothing was freed: {text}"
        return Result(Outcome.OK if freed else Outcome.FAILED, text, {"resident": now, "before": before})

    async def observe(
        self, service: Service, parameters: Parameters, call: PlannedCall, since: datetime
    ) -> Observation:
        """Return *no*: the action leaves no trace, and repeating it is safe."""
        return Observation(EffectStatus.NO, "the action leaves no trace; repeating it is safe")


async def _resident(redis: Redis) -> int:
    return (await redis.info("memory")).integer("used_memory_rss")
