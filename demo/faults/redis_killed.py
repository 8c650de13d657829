"""Redis is killed, as the out-of-memory killer of the kernel does."""

from __future__ import annotations

import signal

from demo.probe import Probe

NAME = "Redis killed"
ALERT = "RedisDown"
TELLS = "kill -9 of redis-server"
STARTED_ONCE: str | None = "redis"


def needs(probe: Probe) -> str | None:
    """Return None, because the fault can be made everywhere."""
    return None


def inject(probe: Probe) -> None:
    """Send SIGKILL."""
    probe.signal("redis", signal.SIGKILL)


def healed(probe: Probe) -> str | None:
    """Return proof: Redis accepts and returns a write, and the app is ready."""
    return probe.redis_serves()
