"""Services of Docker Compose."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

from remediator.authoring.onboarding.sources.base import (
    Found,
    FoundService,
    Source,
    Surroundings,
    aliases,
    service_name,
)
from remediator.clients.docker.client import Docker, endpoint_url
from remediator.clients.endpoints import Endpoint
from remediator.errors import InputError, RemediatorError

_PROJECT = "com.docker.compose.project"
_SERVICE = "com.docker.compose.service"
_SOCKET = Path("/var/run/docker.sock")


class DockerSource(Source):
    """Reads the Compose services of the Docker Engine of ``DOCKER_HOST``, or of the default socket."""

    name = "docker"

    async def find(self, surroundings: Surroundings) -> Found:
        given = surroundings.environment.get("DOCKER_HOST") or f"unix://{_SOCKET}"
        if given == f"unix://{_SOCKET}" and not await asyncio.to_thread(_SOCKET.exists):
            return Found(f"no Docker Engine: {_SOCKET} does not exist")
        try:
            url = endpoint_url(given, tls=False)
            client = Docker(Endpoint(url=url, timeout=timedelta(seconds=5)))
        except (InputError, ValueError) as error:
            return Found(f"DOCKER_HOST: {error}")
        try:
            containers = await client.containers({_PROJECT: None})
        except RemediatorError as error:
            return Found(str(error))
        finally:
            await client.aclose()
        found: dict[tuple[str, str], FoundService] = {}
        for each in containers:
            labels = each.labels or {}
            key = (labels.get(_PROJECT, ""), labels.get(_SERVICE, ""))
            if not all(key) or key in found:
                continue
            binding = {"kind": "docker", "project": key[0], "service": key[1]}
            if url != f"unix://{_SOCKET}":
                binding["url"] = url
            found[key] = FoundService(service_name(key[1]), binding, aliases((key[1], each.name)))
        return Found(f"{url}: {len(found)} Compose services", tuple(found.values()))
