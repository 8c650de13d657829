"""Redis hangs: it accepts connections and answers nothing, as in a stuck disk write or a runaway script."""

from __future__ import annotations

import os
import signal

from demo.probe import Probe

NAME = "Redis hung"
ALERT = "RedisDown"
TELLS = "SIGSTOP of redis-server: it keeps its connections and answers nothing"
STARTED_ONCE: str | None = "redis"


def needs(probe: Probe) -> str | None:
    """Nothing that is not everywhere."""
    return None


def inject(probe: Probe) -> None:
    """SIGSTOP."""
    os.kill(probe.pid("redis"), signal.SIGSTOP)


def healed(probe: Probe) -> str | None:
    """It takes a write and gives it back, and the app says that it is whole."""
    return probe.redis_serves()
