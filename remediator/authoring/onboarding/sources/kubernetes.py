"""Deployments, StatefulSets and DaemonSets of a Kubernetes cluster."""

from __future__ import annotations

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
from remediator.clients.kubernetes.client import Kubernetes
from remediator.clients.kubernetes.kinds import WorkloadKind
from remediator.clients.kubernetes.kubeconfig import access
from remediator.clients.kubernetes.settings import ClusterSettings
from remediator.errors import RemediatorError

_SYSTEM = ("kube-system", "kube-public", "kube-node-lease")
_SHORT_NAME = "app.kubernetes.io/name"


class KubernetesSource(Source):
    """Reads the workloads of the current context, or of the cluster in which this process runs."""

    name = "kubernetes"

    async def find(self, surroundings: Surroundings) -> Found:
        environment = surroundings.environment
        first = environment.get("KUBECONFIG", "").split(":")[0]
        file = Path(first) if first else Path(environment.get("HOME", "/nonexistent")) / ".kube" / "config"
        timeout = timedelta(seconds=5)
        if file.is_file():
            cluster = ClusterSettings(kubeconfig=file.resolve(), timeout=timeout)
        elif environment.get("KUBERNETES_SERVICE_HOST"):
            cluster = ClusterSettings(timeout=timeout)
        else:
            return Found(f"no cluster: {file} does not exist, and this is not a pod")
        try:
            client = Kubernetes(access(cluster))
        except RemediatorError as error:
            return Found(str(error))
        try:
            found = [
                (kind, each.metadata)
                for kind in WorkloadKind
                for each in await client.workloads_of_all_namespaces(kind.resource)
            ]
        except RemediatorError as error:
            return Found(str(error))
        finally:
            await client.aclose()
        config = {"kubeconfig": str(file.resolve())} if file.is_file() else {}
        services = tuple(
            FoundService(
                service_name(meta.name),
                {"kind": "kubernetes", "namespace": meta.namespace, kind.lower(): meta.name, **config},
                aliases((meta.name, meta.labels.get("app", ""), meta.labels.get(_SHORT_NAME, ""))),
            )
            for kind, meta in found
            if meta.namespace not in _SYSTEM
        )
        return Found(f"{client.url}: {len(services)} workloads", services)
