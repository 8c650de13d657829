"""Exporter of container metrics for alerts. It reads through the socket proxy, without privileges or host mounts.

    python -m remediator.clients.docker.container_metrics

Names and labels are the same as in cAdvisor, so rules work with both exporters. Settings are environment variables:
``DOCKER_URL`` (default ``http://socket_proxy:2375``), ``ALLOWED_LABEL`` (``remediator.service``), ``LISTEN``
(``0.0.0.0:9101``).
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from remediator.clients.docker.client import Docker
from remediator.clients.docker.models import Container, Stats
from remediator.clients.endpoints import Endpoint
from remediator.errors import ClientError

SHOWN = ("com.docker.compose.project", "com.docker.compose.service", "com.docker.compose.container-number")
LABELS = ["id", "name", "image", *(f"container_label_{re.sub(r'[^a-zA-Z0-9]', '_', label)}" for label in SHOWN)]

Seen = tuple[Container, Stats | None]


class Snapshot:
    """A collector of one snapshot of all containers."""

    def __init__(self, seen: Iterable[Seen]) -> None:
        self._seen = tuple(seen)

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of the snapshot."""
        start = GaugeMetricFamily("container_start_time_seconds", "Time of the last start.", labels=LABELS)
        running = GaugeMetricFamily("container_running", "1 if it is running.", labels=LABELS)
        restarts = CounterMetricFamily("container_restarts", "Restarts by the Engine.", labels=LABELS)
        killed = GaugeMetricFamily("container_oom_killed", "1 if it was killed for lack of memory.", labels=LABELS)
        memory = GaugeMetricFamily(
            "container_memory_working_set_bytes", "Memory without inactive file cache.", labels=LABELS
        )
        limit = GaugeMetricFamily("container_spec_memory_limit_bytes", "Memory limit.", labels=LABELS)
        cpu = CounterMetricFamily("container_cpu_usage_seconds", "CPU time used.", labels=LABELS)
        for container, stats in self._seen:
            shown = [container.labels.get(label, "") for label in SHOWN]
            name = container.name.removeprefix("/")
            labels = [f"/docker/{container.id}", name, container.config.image, *shown]
            start.add_metric(labels, container.state.started_at.timestamp())
            running.add_metric(labels, float(container.state.running))
            restarts.add_metric(labels, container.restart_count)
            killed.add_metric(labels, float(container.state.oom_killed))
            if stats is not None:
                memory.add_metric(labels, stats.memory)
                limit.add_metric(labels, stats.memory_limit)
                cpu.add_metric(labels, stats.cpu_seconds)
        yield from (start, running, restarts, killed, memory, limit, cpu)


async def look(client: Docker, label: str) -> list[Seen]:
    """Return all containers with the label. A container that disappears in the meantime is left out."""
    listed = await client.containers({label: None})
    found = await asyncio.gather(*(_one(client, each.id) for each in listed))
    return [each for each in found if each is not None]


async def _one(client: Docker, container: str) -> Seen | None:
    try:
        seen = await client.container(container)
        stats = await client.stats(container) if seen.state.running else None
    except ClientError:
        return None
    return seen, stats


def application(url: str, label: str) -> Starlette:
    """Return the ASGI application of the exporter."""
    client = Docker(Endpoint(url=url))

    async def metrics(_: Request) -> Response:
        try:
            seen = await look(client, label)
        except ClientError as error:
            return PlainTextResponse(str(error), 503)
        registry = CollectorRegistry()
        registry.register(Snapshot(seen))
        return Response(generate_latest(registry), media_type="text/plain; version=0.0.4")

    async def healthz(_: Request) -> Response:
        return PlainTextResponse("ok\n")

    @asynccontextmanager
    async def lifespan(_: Starlette) -> Any:
        yield
        await client.aclose()

    return Starlette(routes=[Route("/metrics", metrics), Route("/healthz", healthz)], lifespan=lifespan)


def main() -> None:
    """Serve until the process is stopped."""
    host, _, port = os.environ.get("LISTEN", "0.0.0.0:9101").rpartition(":")
    url = os.environ.get("DOCKER_URL", "http://socket_proxy:2375")
    app = application(url, os.environ.get("ALLOWED_LABEL", "remediator.service"))
    uvicorn.run(app, host=host, port=int(port), log_level="warning", access_log=False)


if __name__ == "__main__":
    main()
