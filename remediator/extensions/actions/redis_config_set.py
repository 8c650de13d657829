"""``redis.config_set``: Change a Redis parameter that can be restored, and record its old value."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Literal

from pydantic import Field

from remediator.core.cost import Cost
from remediator.core.outcome import Outcome
from remediator.core.plan import PlannedCall
from remediator.errors import TargetError
from remediator.extensions import bindings
from remediator.extensions.actions.base import Action, EffectStatus, Observation, Result, UndoCall
from remediator.extensions.parameters import Parameters
from remediator.playbooks.facts import Fact
from remediator.playbooks.inventory import Service

Name = Literal[
    "activedefrag",
    "auto-aof-rewrite-min-size",
    "auto-aof-rewrite-percentage",
    "latency-monitor-threshold",
    "maxclients",
    "maxmemory",
    "maxmemory-policy",
    "maxmemory-samples",
    "no-appendfsync-on-rewrite",
    "slowlog-log-slower-than",
    "slowlog-max-len",
    "stop-writes-on-bgsave-error",
    "tcp-keepalive",
    "timeout",
]
"""Parameters that the action may change: no paths, passwords or replication.

Persistence has its own actions, which require approval.
"""
_UNITS = {"b": 1, "k": 1000, "kb": 1024, "m": 1000**2, "mb": 1024**2, "g": 1000**3, "gb": 1024**3}
_SIZE = re.compile(r"(\d+)\s*([a-z]*)")


class ConfigSetParameters(Parameters):
    """Parameters of ``redis.config_set``."""

    name: Name = Field(description="Name of the parameter.")
    value: str = Field(
        max_length=200,
        pattern=r"^(-1|[A-Za-z0-9][A-Za-z0-9 ._-]*)$",
        description="Value as in redis.conf, for example 100mb, yes or -1.",
    )
    rewrite: bool = Field(
        default=False, description="Also write it into the Redis configuration file; otherwise a restart discards it."
    )


class RedisConfigSet(Action):
    """Change a Redis parameter that can be restored."""

    name = "redis.config_set"
    needs = ("redis",)
    Parameters = ConfigSetParameters
    idempotent = True
    reversible = True
    measures = ("evicted_bytes",)
    timeout = timedelta(seconds=10)
    facts = (
        Fact("old", "string", "Value before the action."),
        Fact("new", "string", "Value after the action."),
    )

    async def plan(self, service: Service, parameters: ConfigSetParameters) -> PlannedCall:
        redis = bindings.redis(service)
        run_id, old = await redis.run_id(), await redis.config_get(parameters.name)
        if same(old, parameters.value):
            raise TargetError(f"{parameters.name} of {service.name} is already {old}")
        lasting = ", then CONFIG REWRITE" if parameters.rewrite else "; a restart of Redis discards it"
        return PlannedCall(
            text=f"CONFIG SET {parameters.name} {parameters.value} on {service.name} (now {old or 'empty'}){lasting}",
            arguments={"name": parameters.name, "value": parameters.value, "old": old, "rewrite": parameters.rewrite},
            pin={"run_id": run_id},
            undo=f"CONFIG SET {parameters.name} {old}",
            risk=_RISKS.get(parameters.name),
        )

    async def cost(self, service: Service, parameters: ConfigSetParameters, call: PlannedCall) -> Cost:
        """Return the bytes that Redis must evict at once with the new memory limit or policy."""
        if parameters.name not in ("maxmemory", "maxmemory-policy"):
            return Cost()
        info = await bindings.redis(service).info("memory")
        is_limit = parameters.name == "maxmemory"
        limit = int(_plain(parameters.value)) if is_limit else info.integer("maxmemory")
        policy = info.text("maxmemory_policy") if is_limit else parameters.value
        evicts = limit > 0 and policy != "noeviction"
        return Cost(evicted_bytes=max(0, info.integer("used_memory") - limit) if evicts else 0)

    async def execute(self, service: Service, parameters: ConfigSetParameters, call: PlannedCall) -> Result:
        redis, expected = bindings.redis(service), str(call.pin["run_id"])
        change = await redis.config_set(parameters.name, parameters.value, expected=expected)
        if parameters.rewrite:
            await redis.config_rewrite(expected=expected)
        well = same(change.new, parameters.value) and not same(change.old, change.new)
        text = f"{change.name} is {change.new} (before: {change.old or 'empty'})"
        return Result(Outcome.OK if well else Outcome.FAILED, text, {"old": change.old, "new": change.new})

    def undo_call(self, call: PlannedCall, output: Mapping[str, Any]) -> UndoCall:
        names = {"name": call.arguments["name"], "value": call.arguments["old"]}
        return UndoCall(self.name, {**names, "rewrite": call.arguments["rewrite"]})

    async def observe(
        self, service: Service, parameters: ConfigSetParameters, call: PlannedCall, since: datetime
    ) -> Observation:
        """Read the parameter."""
        now = await bindings.redis(service).config_get(parameters.name)
        happened = EffectStatus.YES if same(now, parameters.value) else EffectStatus.NO
        return Observation(happened, f"{parameters.name} is {now or 'empty'}", {"value": now})


_RISKS = {
    "maxmemory": "Below the used memory, Redis evicts keys or rejects writes at once.",
    "maxmemory-policy": "Redis may evict keys that applications need, for example sessions.",
    "maxclients": "Below the current number of clients, Redis rejects new connections.",
    "timeout": "Redis closes idle connections.",
    "stop-writes-on-bgsave-error": "If this is off, Redis accepts writes that it cannot save.",
}


def same(one: str, other: str) -> bool:
    """Return whether two values are equal. Redis returns 104857600 for 100mb."""
    return _plain(one) == _plain(other)


def _plain(value: str) -> str:
    found = _SIZE.fullmatch(value.strip().lower())
    return str(int(found[1]) * _UNITS[found[2] or "b"]) if found and (found[2] or "b") in _UNITS else value.lower()
