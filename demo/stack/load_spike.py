"""A spike of traffic in a slow spell, for a while: ``python -m demo.stack.load_spike NGINX APP``. The demo starts it.

Each answer takes a second, as when something that the app needs is slow, and more clients ask at the same time than its
workers have room for.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import time

import httpx

CLIENTS = 80
"""Two workers have room for 64 requests, four for 128."""
SECONDS = 45.0
SLOW = {"latency_ms": 1000}
PAUSE = 0.5
"""Seconds that a client waits when it was sent away."""


async def main(nginx: str, app: str) -> None:
    """Slow the app down, ask and ask again, and let it be fast again, however it ends."""
    async with httpx.AsyncClient(timeout=10.0, trust_env=False, limits=httpx.Limits(max_connections=CLIENTS)) as client:
        await client.put(f"{app}/faults", json=SLOW)
        try:
            until = time.monotonic() + SECONDS
            await asyncio.gather(*(_ask(client, f"{nginx}/items/1", until) for _ in range(CLIENTS)))
        finally:
            await client.delete(f"{app}/faults")


async def _ask(client: httpx.AsyncClient, url: str, until: float) -> None:
    while time.monotonic() < until:
        try:
            answered = (await client.get(url)).is_success
        except httpx.HTTPError:
            answered = False
        if not answered:
            await asyncio.sleep(PAUSE)


def _stop(*_: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _stop)
    asyncio.run(main(*sys.argv[1:3]))
