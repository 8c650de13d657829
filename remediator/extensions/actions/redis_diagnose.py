"""``redis.diagnose``: Read the state of Redis: memory, persistence, role, slow commands, latency and big keys."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any, Literal

from pydantic import Field

from remediator.clients.redis.client import Redis
from remediator.clients.redis.models import Info
from remediator.core.clock import rfc3339
from remediator.core.outcome import Outcome
from remediator.core.plan import PlannedCall
from remediator.core.sizes import format_size
from remediator.errors import ClientError
from remediator.extensions import bindings
from remediator.extensions.actions.base import Action, Result
from remediator.extensions.parameters import Parameters
from remediator.playbooks.facts import Fact
from remediator.playbooks.inventory import Service

Part = Literal["memory", "persistence", "role", "clients", "evictions", "slowlog", "latency", "big_keys"]
_SAMPLE = 1.0
_FULL = 0.98
"""Redis rejects writes some bytes below its limit."""
_NAMED = 3
_MEMORY = ("used_memory", "used_memory_rss", "maxmemory", "maxmemory_policy", "mem_fragmentation_ratio")
_PERSISTENCE = (
    "loading",
    "rdb_changes_since_last_save",
    "rdb_last_bgsave_status",
    "rdb_last_save_time",
    "aof_enabled",
    "aof_current_size",
    "aof_last_bgrewrite_status",
    "aof_last_write_status",
)


class DiagnoseParameters(Parameters):
    """Parameters of ``redis.diagnose``."""

    parts: tuple[Part, ...] = Field(
        default=("memory", "persistence", "role", "clients", "slowlog", "latency"),
        min_length=1,
        description="Parts to read. No defaults: big_keys scans keys, evictions takes a second.",
    )
    scan_limit: int = Field(default=10_000, ge=1, le=1_000_000, description="Maximum number of keys to scan.")
    top: int = Field(default=10, ge=1, le=100, description="Number of entries to report from each list.")


class RedisDiagnose(Action):
    """Read the state of Redis. Fails if a part shows a problem. Reports which parts cannot be read. Read-only."""

    name = "redis.diagnose"
    needs = ("redis",)
    Parameters = DiagnoseParameters
    mutates = False
    idempotent = True
    timeout = timedelta(seconds=15)
    facts = (
        Fact("memory", "object", "Values of the part memory."),
        Fact("memory.used_memory", "integer", "Used memory.", unit="bytes"),
        Fact("memory.used_memory_rss", "integer", "Resident memory.", unit="bytes"),
        Fact("memory.maxmemory", "integer", "Memory limit; 0: no limit.", unit="bytes"),
        Fact("memory.maxmemory_policy", "string", "Eviction policy."),
        Fact("memory.mem_fragmentation_ratio", "number", "Resident memory divided by used memory."),
        Fact("memory.error", "string", "Reason why this part cannot be read."),
        Fact("persistence", "object", "Values of the part persistence."),
        Fact("persistence.loading", "integer", "1 during loading, otherwise 0."),
        Fact("persistence.rdb_changes_since_last_save", "integer", "Changes that are in no snapshot."),
        Fact("persistence.rdb_last_bgsave_status", "string", "Result of the last snapshot.", values=("ok", "err")),
        Fact("persistence.rdb_last_save_time", "integer", "Unix time of the last snapshot.", unit="s"),
        Fact("persistence.aof_enabled", "integer", "1 if there is an append-only file, otherwise 0."),
        Fact("persistence.aof_current_size", "integer", "Size of the append-only file.", unit="bytes"),
        Fact("persistence.aof_last_bgrewrite_status", "string", "Result of the last rewrite.", values=("ok", "err")),
        Fact(
            "persistence.aof_last_write_status",
            "string",
            "Result of the last write to that file.",
            values=("ok", "err"),
        ),
        Fact("persistence.error", "string", "Reason why this part cannot be read."),
        Fact("role", "object", "Values of the part role."),
        Fact("role.role", "string", "Replication role.", values=("master", "slave")),
        Fact("role.replicas", "integer", "Connected replicas."),
        Fact("role.master", "list", "Host and port of the master; null on a master."),
        Fact("role.link", "string", "State of the link to the master; null on a master."),
        Fact("role.error", "string", "Reason why this part cannot be read."),
        Fact("clients", "object", "Values of the part clients."),
        Fact("clients.count", "integer", "Connected clients."),
        Fact("clients.biggest", "list", "Clients with the most memory: id, address, memory and idle seconds."),
        Fact("clients.error", "string", "Reason why this part cannot be read."),
        Fact("evictions", "object", "Values of the part evictions."),
        Fact("evictions.per_second", "number", "Keys evicted per second, measured over a second."),
        Fact("evictions.evicted_keys", "integer", "Evicted keys since the start."),
        Fact("evictions.hit_ratio", "number", "Found keys of all reads since the start, 0 to 1; null without reads."),
        Fact("evictions.error", "string", "Reason why this part cannot be read."),
        Fact("problems", "list", "Problems, as sentences. The action fails if it finds a problem."),
        Fact("slowlog", "list", "Values of the part slowlog: time, seconds and command; or an object with error."),
        Fact(
            "latency",
            "list",
            "Values of the part latency: cause, latest and worst seconds; or an object with error.",
        ),
        Fact("big_keys", "object", "Values of the part big_keys."),
        Fact("big_keys.keys", "list", "The biggest keys: key and bytes."),
        Fact("big_keys.scanned", "integer", "Scanned keys."),
        Fact("big_keys.complete", "boolean", "Whether all keys were scanned."),
        Fact("big_keys.error", "string", "Reason why this part cannot be read."),
    )

    async def plan(self, service: Service, parameters: DiagnoseParameters) -> PlannedCall:
        return PlannedCall(text=f"read from Redis of {service.name}: {', '.join(parameters.parts)}")

    async def execute(self, service: Service, parameters: DiagnoseParameters, call: PlannedCall) -> Result:
        redis = bindings.redis(service)
        # report a server that does not answer as unreachable, not as empty; PING is refused while Redis cannot save
        await redis.info("server")
        facts: dict[str, Any] = {}
        for part in parameters.parts:
            try:
                facts[part] = await _PARTS[part](redis, parameters)
            except ClientError as error:
                facts[part] = {"error": str(error)}
        problems = list(_problems(facts))
        facts["problems"] = problems
        return Result(Outcome.FAILED if problems else Outcome.OK, _summary(facts, problems), facts)


def _reported(info: Info, part: Part, names: Sequence[str]) -> dict[str, Any]:
    """Return fields of INFO with their declared types. A field that this server does not report is null."""
    types = {fact.name: fact.type for fact in RedisDiagnose.facts}
    readers: dict[str, Callable[[str], Any]] = {"integer": info.integer, "number": info.number}
    return {name: readers.get(types[f"{part}.{name}"], info.text)(name) if name in info else None for name in names}


async def _memory(redis: Redis, parameters: DiagnoseParameters) -> Mapping[str, Any]:
    info = await redis.info("memory")
    return _reported(info, "memory", _MEMORY)


async def _persistence(redis: Redis, parameters: DiagnoseParameters) -> Mapping[str, Any]:
    info = await redis.info("persistence")
    return _reported(info, "persistence", _PERSISTENCE)


async def _role(redis: Redis, parameters: DiagnoseParameters) -> Mapping[str, Any]:
    role = await redis.role()
    return {"role": role.name, "replicas": role.replicas, "master": role.master, "link": role.link}


async def _clients(redis: Redis, parameters: DiagnoseParameters) -> Mapping[str, Any]:
    clients = sorted(await redis.clients(), key=lambda client: -client.memory)
    biggest = [
        {"id": each.id, "address": each.address, "memory": each.memory, "idle": each.idle.total_seconds()}
        for each in clients[: parameters.top]
    ]
    return {"count": len(clients), "biggest": biggest}


async def _evictions(redis: Redis, parameters: DiagnoseParameters) -> Mapping[str, Any]:
    before, begun = await redis.info("stats"), time.monotonic()
    await asyncio.sleep(_SAMPLE)
    after = await redis.info("stats")
    hits, reads = after.integer("keyspace_hits"), after.integer("keyspace_hits") + after.integer("keyspace_misses")
    evicted = after.integer("evicted_keys")
    return {
        "per_second": round((evicted - before.integer("evicted_keys")) / (time.monotonic() - begun), 1),
        "evicted_keys": evicted,
        "hit_ratio": round(hits / reads, 3) if reads else None,
    }


async def _slowlog(redis: Redis, parameters: DiagnoseParameters) -> list[Mapping[str, Any]]:
    return [
        {"at": rfc3339(each.at), "seconds": each.took.total_seconds(), "command": each.command}
        for each in await redis.slowlog(parameters.top)
    ]


async def _latency(redis: Redis, parameters: DiagnoseParameters) -> list[Mapping[str, Any]]:
    return [
        {"cause": each.cause, "latest": each.latest.total_seconds(), "worst": each.worst.total_seconds()}
        for each in await redis.latency()
    ]


async def _big_keys(redis: Redis, parameters: DiagnoseParameters) -> Mapping[str, Any]:
    found = await redis.big_keys(limit=parameters.scan_limit, top=parameters.top)
    keys = [{"key": each.name, "bytes": each.size} for each in found.keys]
    return {"keys": keys, "scanned": found.scanned, "complete": found.complete}


_PARTS: Mapping[Part, Callable[[Redis, DiagnoseParameters], Awaitable[Any]]] = {
    "memory": _memory,
    "persistence": _persistence,
    "role": _role,
    "clients": _clients,
    "evictions": _evictions,
    "slowlog": _slowlog,
    "latency": _latency,
    "big_keys": _big_keys,
}


def _problems(facts: Mapping[str, Any]) -> Iterator[str]:
    """Yield the problems that the parts show."""
    memory, saved = facts.get("memory", {}), facts.get("persistence", {})
    limit, policy = memory.get("maxmemory"), memory.get("maxmemory_policy")
    if limit and memory["used_memory"] >= limit * _FULL:
        yield f"the memory limit of {format_size(limit)} is reached, policy {policy}"
    if saved.get("rdb_last_bgsave_status") == "err":
        yield f"the last snapshot failed, {saved['rdb_changes_since_last_save']} changes are in no snapshot"
    if saved.get("aof_last_write_status") == "err":
        yield "the last write to the append-only file failed"
    if saved.get("aof_last_bgrewrite_status") == "err":
        yield "the last rewrite of the append-only file failed"
    if facts.get("role", {}).get("link") not in (None, "connected"):
        yield f"the link to the master is {facts['role']['link']}"
    if evicted := facts.get("evictions", {}).get("per_second"):
        yield f"{evicted:g} keys are evicted per second, hit ratio {facts['evictions']['hit_ratio']}"


def _summary(facts: Mapping[str, Any], problems: Sequence[str]) -> str:
    parts = [*problems]
    if used := facts.get("memory", {}).get("used_memory"):
        parts.append(f"{format_size(int(used))} used")
    if (master := facts.get("role", {}).get("master")) is not None:
        parts.append(f"replica of {master[0]}:{master[1]}")
    if "count" in facts.get("clients", {}):
        parts.append(f"{facts['clients']['count']} clients")
    if facts.get("slowlog") and isinstance(facts["slowlog"], list):
        parts.append(f"slowest recent command: {facts['slowlog'][0]['command']}")
    if biggest := facts.get("big_keys", {}).get("keys"):
        named = ", ".join(f"{each['key']} ({each['bytes']} bytes)" for each in biggest[:_NAMED])
        parts.append(f"biggest keys: {named}")
    failed = [part for part, value in facts.items() if isinstance(value, dict) and "error" in value]
    return "Redis: " + ("; ".join(parts) or "no details") + (f"; not readable: {', '.join(failed)}" if failed else "")
