"""``redis.bgsave``: Write a Redis snapshot if there is enough disk space. The action reads the result from INFO, not
from the reply.
"""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

from remediator.clients.host import disk
from remediator.clients.redis.client import Redis
from remediator.clients.redis.models import Info
from remediator.core.outcome import Outcome
from remediator.core.plan import PlannedCall
from remediator.errors import Refused
from remediator.extensions import bindings
from remediator.extensions.actions.base import Action, EffectStatus, Observation, Result
from remediator.extensions.clientset import ClientSet
from remediator.extensions.parameters import Parameters
from remediator.playbooks.inventory import Service

_MEBIBYTE = 1024 * 1024
_LOOK = 0.1
_SPARE = 1.2


class RedisBgsave(Action):
    """Write a snapshot of Redis' data."""

    name = "redis.bgsave"
    idempotent = True
    timeout = timedelta(minutes=5)

    def __init__(self, world: ClientSet) -> None:
        """It talks to the service's Redis."""

    async def plan(self, service: Service, parameters: Parameters) -> PlannedCall:
        info = await bindings.redis(service).info("server", "memory", "persistence")
        await _possible(service, info)
        used = info.integer("used_memory") / _MEBIBYTE
        return PlannedCall(
            text=f"BGSAVE on {service.name}",
            arguments={"saves": info.integer("rdb_saves"), "last": info.integer("rdb_last_save_time")},
            volatile_fields=("saves", "last"),
            measurement=f"{used:.1f} MiB of data at most, and there is room for them",
            pin={"run_id": info.text("run_id")},
            risk="While it is written, Redis needs more memory and more disk.",
        )

    async def execute(self, service: Service, parameters: Parameters, call: PlannedCall) -> Result:
        redis = bindings.redis(service)
        await _possible(service, await redis.info("memory", "persistence"))
        await redis.bgsave(expected=str(call.pin["run_id"]))
        info = await _written(redis)
        if info.text("rdb_last_bgsave_status") != "ok":
            return Result(Outcome.FAILED, "Redis could not write its snapshot", {"status": "err"})
        return Result(Outcome.OK, "Redis has written a snapshot", {"at": info.integer("rdb_last_save_time")})

    async def observe(
        self, service: Service, parameters: Parameters, call: PlannedCall, since: datetime
    ) -> Observation:
        """Redis counts its snapshots."""
        info = await bindings.redis(service).info("server", "persistence")
        if info.text("run_id") != call.pin["run_id"]:
            return Observation(EffectStatus.NO, "Redis was started anew since")
        if info.flag("rdb_bgsave_in_progress"):
            return Observation(EffectStatus.CANNOT_TELL, "Redis is still writing it")
        if info.integer("rdb_saves") > call.arguments["saves"] and info["rdb_last_bgsave_status"] == "ok":
            return Observation(EffectStatus.YES, "Redis has written a snapshot since")
        return Observation(EffectStatus.NO, "Redis has written no snapshot since")


async def _written(redis: Redis) -> Info:
    """What it tells once it writes no more; the caller bounds it in time."""
    while True:
        info = await redis.info("persistence")
        if not info.flag("rdb_bgsave_in_progress"):
            return info
        await asyncio.sleep(_LOOK)


async def _possible(service: Service, info: Info) -> None:
    """Nothing else is being written, and there is room.

    Raises:
        TargetError: nobody says where the disk is.
        Refused: it is busy, or there is not enough room.
    """
    busy = ("loading", "rdb_bgsave_in_progress", "aof_rewrite_in_progress")
    if any(info.flag(field) for field in busy):
        raise Refused(f"{service.name} is loading or writing just now")
    needed = info.integer("used_memory") * _SPARE
    folder = bindings.disk(service).path
    free = (await asyncio.to_thread(disk.usage, folder)).free
    if free < needed:
        raise Refused(f"the snapshot may need {needed:.0f} bytes, and {folder} has {free} free")
