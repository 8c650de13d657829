"""Tell systemd that the service is ready, alive and stopping (``Type=notify``, ``WatchdogSec``). Elsewhere, nothing."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Mapping


def notify(*state: str, environment: Mapping[str, str] = os.environ) -> bool:
    """Send a state such as ``READY=1`` to the socket that systemd named. Return whether it was sent.

    A datagram that cannot be sent is dropped: the service must not depend on its supervisor.
    """
    address = environment.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return False
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as sender:
            sender.connect("\0" + address[1:] if address.startswith("@") else address)
            sender.send("\n".join(state).encode())
    except OSError:
        return False
    return True


def watchdog_interval() -> float | None:
    """Return the seconds between two watchdog notifications, half of the limit of systemd; None without a limit."""
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    return int(microseconds) / 2_000_000 if microseconds.isascii() and microseconds.isdigit() else None


async def run_watchdog_loop(is_able: Callable[[], bool], interval: float) -> None:
    """Send signs of life while the event loop runs and notifications are processed; otherwise systemd restarts it.

    Args:
        is_able: returns whether received notifications are processed.
        interval: seconds between two signs of life.
    """
    while True:
        if is_able():
            notify("WATCHDOG=1")
        await asyncio.sleep(interval)
