"""``http_sd``: targets from a server, in the format of ``http_sd_configs`` in Prometheus."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing

from remediator.clients.http import HttpClient
from remediator.core.sizes import MEBIBYTE
from remediator.extensions.discoverers.base import Discoverer, Labels, TargetGroup, targets_of
from remediator.playbooks.discovery import HttpSd


class HttpSdDiscoverer(Discoverer):
    """Asks an HTTP server."""

    kind = "http_sd"

    async def find(self, discovery: HttpSd) -> Sequence[Labels]:
        async with aclosing(HttpClient(discovery.server, max_bytes=64 * MEBIBYTE)) as client:
            answer = await client.get("", headers={"Accept": "application/json"})
        return targets_of(answer.json(list[TargetGroup]))
