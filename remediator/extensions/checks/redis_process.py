"""``redis.process``: Check that the process that listens on the port of Redis is Redis and is not stopped.

A Redis that does not answer is either stopped or busy. A restart helps a stopped Redis. For a busy Redis, a restart
ends the command and loses unsaved data. Only the kernel of the host can tell the two cases apart.
"""

from __future__ import annotations

import asyncio
from typing import Any

from remediator.clients.host import sockets
from remediator.clients.host.sockets import Activity
from remediator.core.listen import is_loopback
from remediator.extensions.checks.base import Check, CheckAnswer, Evidence
from remediator.extensions.parameters import Parameters
from remediator.playbooks.facts import Fact
from remediator.playbooks.inventory import Service

_PROGRAMS = ("redis", "valkey", "keydb")


class RedisProcess(Check):
    """Find the process that listens on the port of a Redis on this host, and its state."""

    name = "redis.process"
    needs = ("redis",)
    facts = (
        Fact("listens", "boolean", "Whether a process listens on the port."),
        Fact("pid", "integer", "Its process ID; null without a process."),
        Fact("program", "string", "Name of its program; empty without a process."),
        Fact("is_redis", "boolean", "Whether the program is Redis or Valkey."),
        Fact("activity", "string", "State of the process; null without a process.", values=tuple(Activity)),
        Fact(
            "cpu_percent",
            "number",
            "CPU usage of the process, as a share of one CPU; null without a process.",
            unit="%",
        ),
    )

    async def observe(self, service: Service, parameters: Parameters) -> Evidence:
        redis = service.redis
        if redis is None or redis.sentinel is not None or redis.socket is not None or not is_loopback(redis.host):
            text = f"{service.name} has no Redis with a loopback address: its process cannot be seen from here"
            return Evidence(CheckAnswer.UNKNOWN, text)
        port = redis.port
        found = await asyncio.to_thread(sockets.listeners, port)
        if found is None:
            return Evidence(CheckAnswer.UNKNOWN, f"a process of another user listens on port {port}")
        if not found:
            facts: dict[str, Any] = {"listens": False, "pid": None, "program": "", "is_redis": False}
            return Evidence(CheckAnswer.FAIL, f"no process listens on port {port}", facts)
        first = found[0]
        activity, percent = await asyncio.to_thread(sockets.activity, first.pid)
        is_redis = first.program.startswith(_PROGRAMS)
        facts = {
            "listens": True,
            "pid": first.pid,
            "program": first.program,
            "is_redis": is_redis,
            "activity": activity.value,
            "cpu_percent": percent,
        }
        text = f"port {port}: {first.program} (process {first.pid}) is {activity.value}, {percent:.0f} % CPU"
        well = is_redis and activity not in (Activity.STOPPED, Activity.ENDED)
        return Evidence(CheckAnswer.OK if well else CheckAnswer.FAIL, text, facts)
