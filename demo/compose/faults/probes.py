"""Independent checks: the app through nginx, and Redis inside its container."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

_CLI = 'REDISCLI_AUTH=$(cat /run/secrets/redis_password) redis-cli "$@"'


def redis(stack: Any, *words: str) -> str:
    """Run a Redis command with the client in its container. Return an empty text if that fails."""
    try:
        return str(stack.docker("exec", stack.container("redis"), "sh", "-c", _CLI, "sh", *words))
    except Exception as error:
        if type(error).__name__ != "DemoError":
            raise
        return ""  # exit status of docker itself: Redis or its container does not run


def ready(stack: Any) -> dict[str, Any] | None:
    """Return the readiness report of the app, or None if it is not ready."""
    try:
        with urllib.request.urlopen(f"{stack.url('NGINX_PORT')}/readyz", timeout=3) as answer:
            found: dict[str, Any] = json.load(answer)
    except (OSError, ValueError):
        return None
    return found


def errors(stack: Any, requests: int = 40) -> int | None:
    """Return how many of a number of requests get a 5xx, or None if the app does not answer."""
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
    """Return the images of the running app containers."""
    found = set()
    for number in (1, 2):
        if container := stack.container("app", number):
            found.add(str(stack.docker("inspect", "--format", "{{.Config.Image}} {{.State.Running}}", container)))
    return found
