"""``redis.bgsave``: Write a Redis snapshot if there is enough disk space. The action reads the result from INFO, not
from the reply.
"""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

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


class RedisBgsave(Action):
    """Write a snapshot of the Redis data."""

    name = "redis.bgsave"
    needs = ("redis", "disk")
    idempotent = True
    timeout = timedelta(minutes=5)
    facts = (
        Fact("at", "integer", "Unix time of the snapshot; only after a success.", unit="s"),
        Fact("status", "string", "Only after a failure.", values=("err",)),
    )

    async def plan(self, service: Service, parameters: Parameters) -> PlannedCall:
        info = await bindings.redis(service).info("server", "memory", "persistence")
        await _possible(service, info, self.clients.prometheus)
        used = info.integer("used_memory")
        return PlannedCall(
            text=f"BGSAVE on {service.name}",
            arguments={"saves": info.integer("rdb_saves"), "last": info.integer("rdb_last_save_time")},
            volatile_fields=("saves", "last"),
            measurement=f"at most {format_size(used)} of data, which fit on the disk",
            pin={"run_id": info.text("run_id")},
            risk="During the write, Redis needs more memory and disk space.",
        )

    async def execute(self, service: Service, parameters: Parameters, call: PlannedCall) -> Result:
        redis = bindings.redis(service)
        before = await redis.info("memory", "persistence")
        await _possible(service, before, self.clients.prometheus)
        await redis.bgsave(expected=str(call.pin["run_id"]))
        while True:  # the caller limits the time
            info = await redis.info("persistence")
            if not info.flag("rdb_bgsave_in_progress"):
                break
            await asyncio.sleep(_LOOK)
        if info.text("rdb_last_bgsave_status") != "ok":
            return Result(Outcome.FAILED, "Redis could not write its snapshot", {"status": "err"})
        if info.integer("rdb_saves") <= before.integer("rdb_saves"):
            return Result(Outcome.FAILED, "Redis did not write a snapshot")
        return Result(Outcome.OK, "Redis has written a snapshot", {"at": info.integer("rdb_last_save_time")})

    async def observe(
        self, service: Service, parameters: Parameters, call: PlannedCall, since: datetime
    ) -> Observation:
        """Compare the number of snapshots that Redis counts."""
        info = await bindings.redis(service).info("server", "persistence")
        if info.text("run_id") != call.pin["run_id"]:
            return Observation(EffectStatus.NO, "Redis was restarted since the attempt began")
        if info.flag("rdb_bgsave_in_progress"):
            return Observation(EffectStatus.UNKNOWN, "Redis is still writing the file")
        if info.integer("rdb_saves") > call.arguments["saves"] and info["rdb_last_bgsave_status"] == "ok":
            return Observation(EffectStatus.YES, "Redis has written a snapshot since the attempt began")
        return Observation(EffectStatus.NO, "Redis has not written a snapshot since the attempt began")


async def _possible(service: Service, info: Info, prometheus: Prometheus | None) -> None:
    """Require that Redis is not writing, and that the disk has space.

    Raises:
        TargetError: the inventory does not define the data disk.
        Refused: Redis is writing or loading, or disk space does not suffice.
    """
    busy = ("loading", "rdb_bgsave_in_progress", "aof_rewrite_in_progress")
    if any(info.flag(field) for field in busy):
        raise Refused(f"{service.name} is loading or writing now; try again later")
    needed = info.integer("used_memory") * _SPARE
    free = (await data_disk.usage(service, prometheus)).free
    if free < needed:
        where = data_disk.where(service)
        raise Refused(f"the snapshot may need {format_size(needed)}, but {where} has only {format_size(free)} free")
