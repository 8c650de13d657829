"""``redis.bgrewriteaof``: Rewrite the append-only file of Redis, which makes it as small as the data allows.

It needs disk space for the new file beside the old one, and memory for writes that arrive during the rewrite.
Redis replies OK even if it only scheduled the rewrite, so the action reads the result from INFO.
"""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from pathlib import Path

from pydantic import Field

from remediator.clients.prometheus.client import Prometheus
from remediator.clients.redis.models import Info
from remediator.core.outcome import Outcome
from remediator.core.plan import PlannedCall
from remediator.core.sizes import format_size
from remediator.errors import Refused
from remediator.extensions import bindings, data_disk
from remediator.extensions.actions.base import Action, EffectStatus, Observation, Result
from remediator.extensions.parameters import Parameters
from remediator.playbooks.facts import Fact
from remediator.playbooks.inventory import Service

_LOOK = 0.1
_SPARE = 1.2
"""Safety factor for the estimated space."""


class RewriteParameters(Parameters):
    """Parameters of ``redis.bgrewriteaof``."""

    memory_percent: int = Field(
        default=30, ge=0, le=100, description="Free host memory required for the fork, in percent of Redis memory."
    )


class RedisBgrewriteaof(Action):
    """Rewrite the append-only file if disk and memory suffice."""

    name = "redis.bgrewriteaof"
    needs = ("redis", "disk")
    Parameters = RewriteParameters
    idempotent = True
    timeout = timedelta(minutes=5)
    facts = (
        Fact("size", "integer", "Size of the append-only file after the action.", unit="bytes"),
        Fact("before", "integer", "Size before; only after a success.", unit="bytes"),
    )

    async def plan(self, service: Service, parameters: RewriteParameters) -> PlannedCall:
        redis = bindings.redis(service)
        info = await redis.info("server", "memory", "persistence")
        _possible(service, info)
        needed = await _room(service, info, parameters, self.clients.prometheus)
        size = info.integer("aof_current_size")
        return PlannedCall(
            text=f"BGREWRITEAOF on {service.name}",
            arguments={"size": size, "rewrites": info.integer("aof_rewrites")},
            volatile_fields=("size", "rewrites"),
            measurement=f"the append-only file has {format_size(size)}; the new one needs at most "
            f"{format_size(needed)}, which are free",
            pin={"run_id": info.text("run_id")},
            risk="During the write, Redis needs more memory and disk space.",
        )

    async def execute(self, service: Service, parameters: RewriteParameters, call: PlannedCall) -> Result:
        redis = bindings.redis(service)
        now = await redis.info("memory", "persistence")
        _possible(service, now)
        await _room(service, now, parameters, self.clients.prometheus)
        await redis.bgrewriteaof(expected=str(call.pin["run_id"]))
        while True:  # the caller limits the time
            info = await redis.info("persistence")
            if not _writing(info):
                break
            await asyncio.sleep(_LOOK)
        size, status = info.integer("aof_current_size"), info.text("aof_last_bgrewrite_status")
        before = call.arguments["size"]
        text = f"the append-only file has {format_size(size)} (before: {format_size(before)})"
        if status != "ok":
            return Result(Outcome.FAILED, f"Redis could not rewrite its append-only file; {text}", {"size": size})
        if info.integer("aof_rewrites") <= now.integer("aof_rewrites"):
            return Result(Outcome.FAILED, f"Redis did not rewrite its append-only file; {text}", {"size": size})
        if size >= before:
            return Result(Outcome.FAILED, f"the rewrite freed nothing: {text}", {"size": size, "before": before})
        return Result(Outcome.OK, text, {"size": size, "before": call.arguments["size"]})

    async def observe(
        self, service: Service, parameters: RewriteParameters, call: PlannedCall, since: datetime
    ) -> Observation:
        """Compare the number of rewrites that Redis counts."""
        info = await bindings.redis(service).info("server", "persistence")
        if info.text("run_id") != call.pin["run_id"]:
            return Observation(EffectStatus.NO, "Redis was restarted since the attempt began")
        if _writing(info):
            return Observation(EffectStatus.UNKNOWN, "Redis is still writing the file")
        if info.integer("aof_rewrites") > call.arguments["rewrites"] and info["aof_last_bgrewrite_status"] == "ok":
            return Observation(EffectStatus.YES, "Redis has rewritten its append-only file")
        return Observation(EffectStatus.NO, "Redis has not rewritten its append-only file")


def _writing(info: Info) -> bool:
    return info.flag("aof_rewrite_in_progress") or info.flag("aof_rewrite_scheduled")


def _possible(service: Service, info: Info) -> None:
    if not info.flag("aof_enabled"):
        raise Refused(f"{service.name} has no append-only file")
    for field, what in (
        ("loading", "loading"),
        ("rdb_bgsave_in_progress", "saving"),
        ("aof_rewrite_in_progress", "rewriting"),
    ):
        if info.flag(field):
            raise Refused(f"{service.name} is {what} now; try again later")


async def _room(service: Service, info: Info, parameters: RewriteParameters, prometheus: Prometheus | None) -> float:
    """Return the bytes that the new file may need.

    Raises:
        TargetError: the inventory does not define the data disk.
        Refused: disk space or memory does not suffice.
    """
    # used memory is an upper bound of the new file size, except for the overhead of tiny data sets
    needed = _SPARE * min(info.integer("used_memory"), info.integer("aof_current_size"))
    free = (await data_disk.usage(service, prometheus)).free
    if free < needed:
        where = data_disk.where(service)
        raise Refused(f"the new file may need {format_size(needed)}, but {where} has only {format_size(free)} free")
    if bindings.disk(service).path is None:  # Redis runs on another host, whose memory is unknown here
        return needed
    memory = info.integer("used_memory") * parameters.memory_percent / 100
    if (available := _memory()) is not None and available < memory:
        need, have = format_size(memory), format_size(available)
        raise Refused(f"the fork may need {need} of memory, but the host has only {have} available")
    return needed


def _memory() -> int | None:
    """Return the available memory of this host in bytes; None if it is unknown."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    found = next((line for line in lines if line.startswith("MemAvailable:")), None)
    return None if found is None else int(found.split()[1]) * 1024
