"""``python -m demo.stack.traffic URL``: steady traffic through nginx, so that rates exist."""

from __future__ import annotations

import sys
import time
from contextlib import suppress

import httpx

PAUSE = 0.1
"""Seconds between two requests."""


def main(url: str) -> None:
    """Read and write items and read a session until stopped. Errors are ignored."""
    with httpx.Client(base_url=url, timeout=5.0, trust_env=False) as client:
        number = 0
        while True:
            with suppress(httpx.HTTPError):  # the app or nginx is down, which the alerts report
                one(client, number)
            time.sleep(PAUSE)
            number += 1


def one(client: httpx.Client, number: int) -> httpx.Response:
    """Send the request with this number. Every fortieth writes an item or logs in, and the others read."""
    if number % 40 == 0:
        return client.post("/items", json={"name": f"item {number}", "price_cents": number})
    if number % 40 == 20:
        return client.post("/login", json={"username": "traffic"})
    if number % 10 == 5 and client.cookies:
        return client.get("/me")
    return client.get("/items", params={"limit": 10}) if number < 10 else client.get("/items/1")


if __name__ == "__main__":
    main(sys.argv[1])
