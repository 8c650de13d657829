"""How full the data disk of a service is: a folder of this host, or a volume of a Kubernetes cluster."""

from __future__ import annotations

from remediator.clients.host import disk
from remediator.clients.prometheus.client import Prometheus
from remediator.errors import TargetError
from remediator.extensions import bindings
from remediator.playbooks.inventory import Service
from remediator.playbooks.platform_bindings import KubernetesBinding


async def usage(service: Service, prometheus: Prometheus | None) -> disk.Usage:
    """Return the usage of the data disk.

    Without an agent, the figures of a volume come from the kubelet, by Prometheus. They are up to two minutes old.

    Raises:
        TargetError: the inventory does not define the disk, or its usage is unknown.
        ClientError: Prometheus does not answer.
    """
    found = bindings.disk(service)
    if found.path is not None:
        return await bindings.data_files(service).usage()
    if prometheus is None:
        raise TargetError(f"the usage of the volume of {service.name} is unknown: the settings name no Prometheus")
    platform = service.platform
    if not isinstance(platform, KubernetesBinding):
        raise TargetError(f"disk.claim of {service.name} is a volume of Kubernetes, but the service does not run there")
    labels = f'{{namespace="{platform.namespace}",persistentvolumeclaim="{found.claim}"}}'
    figures = []
    for name in ("capacity", "used", "available"):
        query = f"kubelet_volume_stats_{name}_bytes{labels}"
        samples = (await prometheus.query(query)).samples
        if len(samples) != 1:
            raise TargetError(f"{len(samples)} series instead of one: {query}; does Prometheus scrape the kubelet?")
        figures.append(round(samples[0].value))
    return disk.Usage(*figures)


def where(service: Service) -> str:
    """Return the folder or the claim, for messages."""
    found = bindings.disk(service)
    return f"the volume of claim {found.claim}" if found.claim is not None else str(found.path)
