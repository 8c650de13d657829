"""``kubernetes``: workloads of a cluster, by label selector in named namespaces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import aclosing

from remediator.clients.kubernetes.client import Kind, Kubernetes
from remediator.clients.kubernetes.kubeconfig import access
from remediator.extensions.discoverers.base import Discoverer, Labels
from remediator.playbooks.discovery import KubernetesObjects

_RESOURCES: Mapping[str, Kind] = {
    "Deployment": "deployments",
    "StatefulSet": "statefulsets",
    "DaemonSet": "daemonsets",
}


class KubernetesDiscoverer(Discoverer):
    """Lists workloads. It needs the right ``list`` on them in each namespace."""

    kind = "kubernetes"

    async def find(self, discovery: KubernetesObjects) -> Sequence[Labels]:
        found: list[Labels] = []
        for namespace in discovery.namespaces:
            async with aclosing(Kubernetes(access(discovery, namespace))) as client:
                for kind in discovery.kinds:
                    for each in await client.workloads(_RESOURCES[kind], discovery.selector):
                        own = {f"label.{name}": value for name, value in each.metadata.labels.items()}
                        about = {"kind": kind, "namespace": namespace, "name": each.metadata.name}
                        found.append({**own, **about, "replicas": str(each.spec.replicas)})
        return found
