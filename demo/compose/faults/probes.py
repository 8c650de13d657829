"""The demonstration's own eyes: what the app answers through nginx, and what Redis says in its container."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

_CLI = 'REDISCLI_AUTH=$(cat /run/secrets/redis_password) redis-cli "$@"'


def redis(stack: Any, *words: str) -> str:
    """A command of Redis, by its own client in its own container; an empty text if it cannot be asked."""
    try:
        return str(stack.docker("exec", stack.container("redis"), "sh", "-c", _CLI, "sh", *words))
    except Exception as error:  # noqa: BLE001  (docker's own exit status: Redis or its container is away)
        return "" if type(error).__name__ == "DemoError" else _raise(error)


def _raise(error: Exception) -> str:
    raise error


def ready(stack: Any) -> dict[str, Any] | None:
    """What the app says of itself if nothing is missing."""
    try:
        with urllib.request.urlopen(f"{stack.url('NGINX_PORT')}/readyz", timeout=3) as answer:
            found: dict[str, Any] = json.load(answer)
    except (OSError, ValueError):
        return None
    return found


def errors(stack: Any, requests: int = 40) -> int | None:
    """How many of so many requests are answered by 5xx; None if the app does not answer at all."""
    count = 0
    for _ in range(requests):
        try:
            urllib.request.urlopen(f"{stack.url('NGINX_PORT')}/items?limit=1", timeout=3).close()
        except urllib.error.HTTPError as error:
            count += error.code >= 500
        except OSError:
            return None
    return count


def releases(stack: Any) -> set[str]:
    """The images of the app's containers that run."""
    found = set()
    for number in (1, 2):
        if container := stack.container("app", number):
            found.add(str(stack.docker("inspect", "--format", "{{.Config.Image}} {{.State.Running}}", container)))
    return found
