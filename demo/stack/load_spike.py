"""A spike of traffic while answers are slow: ``python -m demo.stack.load_spike NGINX APP``. The demo starts it.

Each answer takes a second, as with a slow dependency, and more clients send requests at the same time than the workers
can handle.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import time

import httpx

CLIENTS = 80
"""Number of clients. Two workers handle 64 requests at once, and four handle 128."""
SECONDS = 45.0
SLOW = {"latency_ms": 1000}
PAUSE = 0.5
"""Seconds that a client waits after a refused request."""


async def main(nginx: str, app: str) -> None:
    """Make the app slow, send requests, and make it fast again, whatever ends the program."""
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
