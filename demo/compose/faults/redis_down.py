"""Redis is killed as by kill -9; Docker, which was told to, does not start it again."""

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
    return "Redis takes a write, the app finds nothing missing"
