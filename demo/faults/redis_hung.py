"""Redis hangs: it accepts connections and does not answer, as in a stuck disk write or a long script."""

from __future__ import annotations

import signal

from demo.probe import Probe

NAME = "Redis hung"
ALERT = "RedisDown"
TELLS = "SIGSTOP of redis-server: it keeps its connections and does not answer"
STARTED_ONCE: str | None = "redis"


def needs(probe: Probe) -> str | None:
    """Return None, because the fault can be made everywhere."""
    return None


def inject(probe: Probe) -> None:
    """Send SIGSTOP."""
    probe.signal("redis", signal.SIGSTOP)


def healed(probe: Probe) -> str | None:
    """Return proof: Redis accepts and returns a write, and the app is ready."""
    return probe.redis_serves()
