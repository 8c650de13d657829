"""Redis is killed with SIGKILL, and Docker is configured not to restart it."""

from __future__ import annotations

from typing import Any

from demo.compose.faults import probes

ALERT = "RedisDown"
TELLS = "SIGKILL to Redis' container"
PLAYBOOKS = ("redis-down",)


def inject(stack: Any) -> None:
    stack.docker("kill", "--signal", "KILL", stack.container("redis"))


def healed(stack: Any) -> str | None:
    if probes.redis(stack, "SET", "demo:probe", "1", "EX", "10") != "OK" or probes.ready(stack) is None:
        return None
    return "Redis accepts a write, and the app is ready"
