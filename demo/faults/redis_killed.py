"""Redis dies at once, as by the kernel's out-of-memory killer."""

from __future__ import annotations

import os
import signal

from demo.probe import Probe

NAME = "Redis killed"
ALERT = "RedisDown"
TELLS = "kill -9 of redis-server"
STARTED_ONCE: str | None = "redis"


def needs(probe: Probe) -> str | None:
    """Nothing that is not everywhere."""
    return None


def inject(probe: Probe) -> None:
    """kill -9."""
    os.kill(probe.pid("redis"), signal.SIGKILL)


def healed(probe: Probe) -> str | None:
    """It takes a write and gives it back, and the app says that it is whole."""
    return probe.redis_serves()
