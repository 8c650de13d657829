"""``redis.memory_purge``: Tell Redis to return unused memory to the operating system."""

from __future__ import annotations

from datetime import datetime, timedelta

from remediator.core.outcome import Outcome
from remediator.core.plan import PlannedCall
from remediator.extensions import bindings
from remediator.extensions.actions.base import Action, EffectStatus, Observation, Result
from remediator.extensions.parameters import Parameters
from remediator.playbooks.facts import Fact
from remediator.playbooks.inventory import Service

_MEBIBYTE = 1024 * 1024


class RedisMemoryPurge(Action):
    """Return unused Redis memory to the operating system. No data is changed."""

    name = "redis.memory_purge"
    idempotent = True
    timeout = timedelta(seconds=30)
    facts = (
        Fact("resident", "integer", "Resident memory after.", unit="bytes"),
        Fact("before", "integer", "Resident memory before.", unit="bytes"),
    )

    async def plan(self, service: Service, parameters: Parameters) -> PlannedCall:
        info = await bindings.redis(service).info("server", "memory")
        used, resident = info.integer("used_memory"), info.integer("used_memory_rss")
        return PlannedCall(
            text=f"MEMORY PURGE on {service.name}",
            arguments={"resident": resident},
            volatile_fields=("resident",),
            measurement=f"Redis uses {used / _MEBIBYTE:.1f} MiB of {resident / _MEBIBYTE:.1f} MiB resident memory",
            pin={"run_id": info.text("run_id")},
            risk="Redis may not answer for some milliseconds.",
        )

    async def execute(self, service: Service, parameters: Parameters, call: PlannedCall) -> Result:
        redis = bindings.redis(service)
        await redis.memory_purge(expected=str(call.pin["run_id"]))
        now = (await redis.info("memory")).integer("used_memory_rss")
        before = int(call.arguments["resident"])
        text = f"Redis has {now / _MEBIBYTE:.1f} MiB resident memory (before: {before / _MEBIBYTE:.1f} MiB)"
        freed = Outcome.OK if now < before else Outcome.FAILED
        return Result(freed, text if now < before else f"nothing was freed: {text}", {"resident": now, "before": before})

    async def observe(
        self, service: Service, parameters: Parameters, call: PlannedCall, since: datetime
    ) -> Observation:
        """Return *no*: the action leaves no trace, and repeating it is safe."""
        return Observation(EffectStatus.NO, "the action leaves no trace; repeating it is safe")
