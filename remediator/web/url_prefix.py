"""The path of ``public_url``, for a service behind a proxy that serves it below a path such as ``/remediator``.

The proxy may pass the path on or remove it; both work. Requests without the path, such as probes, work too.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any
from urllib.parse import urlsplit

from starlette.types import Message, Scope, Send


def prefix_of(public_url: str) -> str:
    """Return the path of a URL without a slash at its end; empty if the URL has no path."""
    return urlsplit(public_url).path.rstrip("/")


def without_prefix(scope: Scope, prefix: str) -> Scope:
    """Return the request as if the service were served at ``/``."""
    path: str = scope.get("path", "")
    if not prefix or not (path == prefix or path.startswith(f"{prefix}/")):
        return scope
    rest: MutableMapping[str, Any] = {**scope, "path": path[len(prefix) :] or "/"}
    raw = scope.get("raw_path")
    if isinstance(raw, bytes) and raw.startswith(prefix.encode()):
        rest["raw_path"] = raw[len(prefix) :] or b"/"
    return rest


def with_prefix(send: Send, prefix: str) -> Send:
    """Return a function that sends an answer whose redirects stay below the prefix."""
    if not prefix:
        return send

    async def complete(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [
                (name, prefix.encode() + value if _is_local(name, value) else value)
                for name, value in message.get("headers", ())
            ]
        await send(message)

    return complete


def _is_local(name: bytes, value: bytes) -> bool:
    return name.lower() == b"location" and value.startswith(b"/") and not value.startswith(b"//")
