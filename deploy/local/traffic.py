"""A little steady traffic through nginx, so that rates exist: ``python -m deploy.local.traffic URL``."""

from __future__ import annotations

import sys
import time

import httpx

PAUSE = 0.1


def main(url: str) -> None:
    """Read and write a few items, ten requests a second, whatever the answers are, until stopped."""
    with httpx.Client(base_url=url, timeout=5.0, trust_env=False) as client:
        number = 0
        while True:
            number += 1
            try:
                _one(client, number)
            except httpx.HTTPError:
                time.sleep(PAUSE)
            time.sleep(PAUSE)


def _one(client: httpx.Client, number: int) -> None:
    if number % 20 == 1:
        client.post("/items", json={"name": f"item {number}", "description": "made by the traffic", "price": 1})
    else:
        client.get(f"/items/{number % 7 + 1}")


if __name__ == "__main__":
    main(sys.argv[1])
