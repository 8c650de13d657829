"""Measurements that several actions share: the loss if a service were interrupted now.

A hung Redis does not answer queries. These facts decide instead:

- If no process runs, its memory is lost already, and a start loses nothing more.
- If the process holds its append-only file open for writing, and the disk has room, that file has every write.
- If Prometheus has samples of redis_exporter from right before Redis stopped answering, the last samples count.
- Otherwise the unsaved writes are unknown, and a person is asked.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import msgspec

from remediator.clients.postgres.client import Postgres
from remediator.clients.prometheus.promql import selector
from remediator.clients.redis.client import Redis
from remediator.clients.redis.connection import RedisState
from remediator.clients.redis.models import Info
from remediator.core.clock import rfc3339
from remediator.core.cost import Cost
from remediator.core.sizes import MEBIBYTE
from remediator.errors import ClientError
from remediator.extensions.clientset import ClientSet
from remediator.extensions.platforms.base import ServiceStatus, State
from remediator.playbooks.inventory import Service

REDIS_FIELDS = ("unsaved_writes", "last_save_age", "cannot_save", "refuses", "only_copy", "clients")
POSTGRES_FIELDS = ("clients", "rolled_back_transactions")
INSTANCE_FIELDS = ("sole_instance", "ready_instances", "in_flight_requests", "rolled_back_transactions")
_NOT_RUNNING = frozenset({State.STOPPED, State.EXITED, State.CRASH_LOOP, State.STARTING})
_REFUSALS = frozenset(RedisState) - {
    RedisState.SERVING,
    RedisState.DOWN,
    RedisState.UNREACHABLE,
    RedisState.SILENT,
    RedisState.UNTRUSTED,
    RedisState.UNASKED,
    RedisState.FAILOVER,
    RedisState.CONFUSED,
}
"""States in which Redis itself answers and refuses.

It may serve other clients, and most causes persist after a restart.
"""
_WINDOW = timedelta(minutes=30)
"""How old the last samples of a hung Redis can be."""
_SCRAPES = timedelta(minutes=1)
"""Time after the last samples within which the exporter must have tried again: a few scrapes."""
_EXPORTED = {
    "up": "up",
    "aof_enabled": "aof_enabled",
    "aof_base_size_bytes": "aof_base_size",
    "aof_last_write_status": "aof_last_write_status",
    "aof_rewrite_in_progress": "aof_rewrite_in_progress",
    "aof_rewrite_scheduled": "aof_rewrite_scheduled",
    "connected_clients": "connected_clients",
    "rdb_changes_since_last_save": "rdb_changes_since_last_save",
    "rdb_last_bgsave_status": "rdb_last_bgsave_status",
    "rdb_last_save_timestamp_seconds": "rdb_last_save_time",
}
"""Metrics of redis_exporter without their prefix, and the fields of INFO that they come from."""
_ONLY_WITH_AOF = {"aof_base_size_bytes"}
_EXPORTED_STATUS = {
    (name, value): text
    for name in ("aof_last_write_status", "rdb_last_bgsave_status")
    for value, text in ((1.0, "ok"), (0.0, "err"))
}
_ROOM = MEBIBYTE
"""Bytes that must be free on the disk of an append-only file. On a full disk Redis may fail to write to it."""


async def interruption(clients: ClientSet, service: Service) -> Cost:
    """Return the loss if all instances of a service stopped now. Its bindings determine the measured values."""
    status = await clients.platform_of(service).status(service)
    cost = Cost(sole_instance=status.healthy <= 1, ready_instances=status.healthy)
    if service.redis is not None:
        cost = _joined(cost, await redis_data(clients, service, status))
    if service.postgres is not None:
        cost = _joined(cost, await postgres_sessions(service, status))
    return _joined(cost, await in_flight(clients, service))


async def redis_data(clients: ClientSet, service: Service, status: ServiceStatus | None = None) -> Cost:
    """Return the data in the memory of a Redis that is saved nowhere else.

    Args:
        clients: has the clock.
        service: a service with ``redis``.
        status: the state on the platform; None if the platform does not manage this Redis.
    """
    assert service.redis is not None, "only for a service with redis"
    redis = Redis(service.redis)
    try:
        info = await redis.info("server", "clients", "persistence", "replication")
    except ClientError as error:
        state = getattr(error, "state", None)
        return await _of_silent_redis(clients, service, status, error=str(error), state=state)
    return _from_info(info, clients.clock.now().timestamp())


def _from_info(info: Info, now: float) -> Cost:
    writes, append_only = info.integer("rdb_changes_since_last_save"), info.flag("aof_enabled")
    first_rewrite = info.flag("aof_rewrite_in_progress") or info.flag("aof_rewrite_scheduled")
    if first_rewrite and int(info.get("aof_base_size", "1")) == 0:
        append_only = False  # after CONFIG SET appendonly yes, the file contains no writes until its first rewrite ends
    if append_only:
        failed = info.get("aof_last_write_status", "ok") != "ok"
    else:
        failed = info.get("rdb_last_bgsave_status", "ok") != "ok"
    is_master = info.text("role") == "master"
    replicas = [value for name, value in info.items() if name.startswith("slave") and "state=online" in value]
    return Cost(
        unsaved_writes=0 if append_only and not failed else writes,
        last_save_age=max(0.0, now - info.integer("rdb_last_save_time")),
        cannot_save=failed,
        refuses=info.get("loading", "0") == "1",
        only_copy=is_master and not replicas,
        clients=max(0, info.integer("connected_clients") - 1),  # do not count our own connection
    )


async def _of_silent_redis(
    clients: ClientSet, service: Service, status: ServiceStatus | None, *, error: str, state: RedisState | None
) -> Cost:
    if status is not None and status.state in _NOT_RUNNING and state in (RedisState.DOWN, RedisState.UNREACHABLE):
        source = f"no Redis runs ({status.summary}): what only its memory had is lost already"
        return Cost(unsaved_writes=0, cannot_save=False, refuses=False, clients=0, source=source)
    unknown = dict.fromkeys(REDIS_FIELDS, f"Redis does not answer: {error}")
    refuses = True if state in _REFUSALS else False if state is RedisState.SILENT else None
    if refuses is not None:
        del unknown["refuses"]
    pid = None if status is None else status.pin.get("pid")
    written = None if pid is None else await asyncio.to_thread(append_only_file, int(pid))
    if written is None:
        # Only for a Redis that does not answer: a Redis that refuses our password, or that we cannot reach, may accept
        # writes.
        seen = await _last_seen(clients, service) if state is RedisState.SILENT else None
        return seen or Cost(refuses=refuses, unknown=unknown)
    for name in ("unsaved_writes", "cannot_save"):
        del unknown[name]
    source = f"process {pid} has its append-only file {written} open for writing"
    return Cost(unsaved_writes=0, cannot_save=False, refuses=refuses, unknown=unknown, source=source)


async def _last_seen(clients: ClientSet, service: Service) -> Cost | None:
    """Return the cost from the last samples of redis_exporter; None if they are too old.

    A Redis that does not answer accepts no writes, so the last samples stay true for as long as it hangs. They count
    only if the exporter tried again soon after them: otherwise writes may have followed that no sample shows.
    """
    if clients.prometheus is None or not service.redis_exporter:
        return None
    labels = {name: value for name, value in service.redis_exporter.items() if name != "__name__"}
    inside = selector("redis_up", labels).partition("{")[2]
    try:
        series = await clients.prometheus.samples(f'{{__name__=~"redis_({"|".join(_EXPORTED)})",{inside}', _WINDOW)
    except ClientError:
        return None
    found = {each.labels["__name__"].removeprefix("redis_"): each.points for each in series}
    if len(found) < len(series) or not set(found) >= _EXPORTED.keys() - _ONLY_WITH_AOF:
        return None  # the samples are incomplete, or of several instances
    seen_at = found["rdb_changes_since_last_save"][-1][0]
    failed = [at for at, is_up in found["up"] if at > seen_at and not is_up]
    now = clients.clock.now()
    if min(failed, default=now) - seen_at > _SCRAPES:
        return None
    values = {name: points[-1][1] for name, points in found.items()}
    info = Info({"role": "master"})
    for name, value in values.items():
        info[_EXPORTED[name]] = _EXPORTED_STATUS.get((name, value), f"{value:.0f}")
    cost = _from_info(info, now.timestamp())
    source = f"the last samples of redis_exporter, from {rfc3339(seen_at)[:19]}Z, right before Redis stopped answering"
    return msgspec.structs.replace(cost, only_copy=None, source=source)


def append_only_file(pid: int) -> Path | None:
    """Return the append-only file that a process of this host holds open for writing, on a disk with room.

    Redis closes the file when ``appendonly`` is switched off, so an open file proves that it is on. None: there is no
    such file, or this user may not read the process.
    """
    with suppress(OSError), os.scandir(f"/proc/{pid}/fd") as entries:
        for entry in entries:
            path = Path(os.readlink(entry.path))
            if path.suffix != ".aof":
                continue
            flags = Path(f"/proc/{pid}/fdinfo/{entry.name}").read_text().split("flags:")[1].split()[0]
            free = os.statvfs(path)
            if int(flags, 8) & os.O_ACCMODE != os.O_RDONLY and free.f_bavail * free.f_frsize >= _ROOM:
                return path
    return None


async def postgres_sessions(service: Service, status: ServiceStatus) -> Cost:
    """Return the sessions of a PostgreSQL that end with it. Committed data is in the WAL, so it is not lost."""
    assert service.postgres is not None, "only for a service with postgres"
    try:
        sessions = await Postgres(service.postgres).sessions()
    except ClientError as error:
        if status.state in _NOT_RUNNING:
            return Cost(clients=0, rolled_back_transactions=0, source=f"no PostgreSQL runs ({status.summary})")
        return Cost(unknown=dict.fromkeys(POSTGRES_FIELDS, f"PostgreSQL does not answer: {error}"))
    found = [session for session in sessions if session.is_client]
    return Cost(clients=len(found), rolled_back_transactions=sum(session.writes for session in found))


async def in_flight(clients: ClientSet, service: Service) -> Cost:
    """Return the requests in progress, by the PromQL expression of the inventory; nothing without one."""
    query = None if service.http is None else service.http.in_flight
    if query is None:
        return Cost()
    if clients.prometheus is None:
        return Cost(unknown={"in_flight_requests": "the settings name no Prometheus"})
    try:
        found = await clients.prometheus.query(query)
    except ClientError as error:
        return Cost(unknown={"in_flight_requests": str(error)})
    if len(found.samples) != 1:
        return Cost(unknown={"in_flight_requests": f"{len(found.samples)} series instead of one: {query}"})
    return Cost(in_flight_requests=round(found.samples[0].value))


async def replication(clients: ClientSet, service: Service) -> Cost:
    """Return the loss of a failover of a Redis: the bytes that its best replica has not received."""
    if service.redis is None:
        why = f"service {service.name!r} has no 'redis' in the inventory"
        return Cost(unknown={"unreplicated_bytes": why, "clients": why})
    try:
        info = await Redis(service.redis).info("clients", "replication")
    except ClientError as error:
        return Cost(unknown=dict.fromkeys(("unreplicated_bytes", "clients"), f"Redis does not answer: {error}"))
    clients_now = max(0, info.integer("connected_clients") - 1)
    offsets = [
        int(part.removeprefix("offset="))
        for name, value in info.items()
        if name.startswith("slave") and "state=online" in value
        for part in value.split(",")
        if part.startswith("offset=")
    ]
    if not offsets:
        return Cost(clients=clients_now, unknown={"unreplicated_bytes": "no replica is connected"})
    return Cost(clients=clients_now, unreplicated_bytes=max(0, info.integer("master_repl_offset") - max(offsets)))


def _joined(one: Cost, other: Cost) -> Cost:
    return msgspec.structs.replace(
        one, **other.known(), unknown={**one.unknown, **other.unknown}, source=other.source or one.source
    )
