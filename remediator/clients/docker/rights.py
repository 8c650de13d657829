"""The calls of the Docker API that actions need, and which of them the Engine or a proxy in front of it denies."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from uuid import uuid4

from remediator.clients.docker.client import Docker, DockerRefused

_RECREATE = (
    ("POST", "/containers/{id}/rename"),
    ("POST", "/containers/{id}/start"),
    ("POST", "/containers/{id}/stop"),
    ("DELETE", "/containers/{id}"),
)
CALLS: Mapping[str, tuple[tuple[str, str], ...]] = {
    "service.status": (("GET", "/containers/{id}/json"),),
    "service.logs": (("GET", "/containers/{id}/logs"),),
    "service.restart": (("POST", "/containers/{id}/restart"),),
    "service.rollback": _RECREATE,
    "service.scale": _RECREATE,
}
"""Methods and paths by action; other actions need no further call."""
_DENIED = frozenset({401, 403, 405, 501})


async def missing_rights(client: Docker, action: str) -> tuple[str, ...]:
    """Return the calls that an action needs and that are denied, as text.

    Each call is sent for a container ID that does not exist: ``404`` then means that the call is allowed. So nothing
    changes, also if the Engine accepts the call.

    Raises:
        DockerRefused: the answer says neither.
    """
    calls = CALLS.get(action, ())
    allowed = await asyncio.gather(*(_allowed(client, method, path) for method, path in calls))
    return tuple(f"call {method} {path}" for (method, path), yes in zip(calls, allowed, strict=True) if not yes)


async def _allowed(client: Docker, method: str, path: str) -> bool:
    nobody = f"{uuid4().hex}{uuid4().hex}"
    try:
        await client.dry_call(method, path.format(id=nobody))
    except DockerRefused as error:
        if error.status == 404:
            return True
        if error.status in _DENIED:
            return False
        raise
    return True
