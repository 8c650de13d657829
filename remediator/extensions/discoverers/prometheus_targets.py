"""``prometheus_targets``: the scrape targets of a Prometheus."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing

from remediator.clients.prometheus.client import Prometheus
from remediator.errors import ConfigurationError
from remediator.extensions.discoverers.base import Discoverer, Labels, address_labels
from remediator.playbooks.discovery import PrometheusTargets


class PrometheusTargetsDiscoverer(Discoverer):
    """Asks Prometheus for its active targets, whether they are up or down."""

    kind = "prometheus_targets"

    async def find(self, discovery: PrometheusTargets) -> Sequence[Labels]:
        if discovery.server is not None:
            async with aclosing(Prometheus(discovery.server)) as own:
                return await _targets(own)
        if self.clients.prometheus is None:
            raise ConfigurationError("no Prometheus is known; set 'server' here, or 'prometheus' in the settings")
        return await _targets(self.clients.prometheus)


async def _targets(prometheus: Prometheus) -> list[Labels]:
    return [{**target.labels, **address_labels(target.scrape_url)} for target in await prometheus.targets()]
