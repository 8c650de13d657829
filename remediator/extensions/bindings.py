"""What the inventory says of a service, or the sentence that it does not say it: for actions that need it."""

from __future__ import annotations

from typing import TypeVar

from remediator.clients.aws.elasticache import ReplicationGroups
from remediator.clients.github.client import Repository
from remediator.clients.gitops.client import Managed
from remediator.clients.host.nginx import IncludedFile, NginxFiles
from remediator.clients.host.quarantine import Quarantine
from remediator.clients.kubernetes.kubeconfig import KubernetesEndpoint
from remediator.clients.redis.client import Redis
from remediator.errors import TargetError
from remediator.playbooks.inventory import AppServer, ArgoCd, Backups, Disk, Flux, Nginx, Service

T = TypeVar("T")


def redis(service: Service) -> Redis:
    """A client of the service's Redis.

    Raises:
        TargetError: the inventory does not say where it is; likewise for the others.
    """
    return Redis(_said(service.redis, f"where the Redis of {service.name} is"))


def disk(service: Service) -> Disk:
    """The filesystem that the service keeps its data on."""
    return _said(service.disk, f"on which disk {service.name} keeps its data")


def backups(service: Service) -> Backups:
    """The service's backups."""
    return _said(service.backups, f"where the backups of {service.name} are")


def quarantine(found: Backups) -> Quarantine:
    """Where backups are moved before they are deleted."""
    return Quarantine(found.quarantine or found.path / ".quarantine")


def app_server(service: Service) -> AppServer:
    """The service's gunicorn master."""
    return _said(service.app_server, f"where the app server of {service.name} is")


def nginx(service: Service) -> tuple[Nginx, IncludedFile]:
    """The nginx before a service, and its included file that is ours."""
    found = _said(service.nginx, f"where the nginx before {service.name} is")
    pid_file = _said(found.pid_file, f"where the pid file of the nginx before {service.name} is")
    binary = "nginx" if found.binary is None else str(found.binary)
    return found, IncludedFile(NginxFiles(found.include, pid_file, binary, found.config))


def github(service: Service) -> Repository:
    """A client of the repository whose workflows deploy the service."""
    return Repository(_said(service.github, f"which repository deploys {service.name}"))


def argocd(service: Service) -> Managed:
    """The Argo CD Application that deploys the service."""
    found = _said(service.argocd, f"which Argo CD Application deploys {service.name}")
    return Managed(_cluster(found), "Application", found.application)


def flux(service: Service) -> Managed:
    """The Flux object that deploys the service."""
    found = _said(service.flux, f"which Flux object deploys {service.name}")
    return Managed(_cluster(found), found.kind, found.name)


def _cluster(found: ArgoCd | Flux) -> KubernetesEndpoint:
    return KubernetesEndpoint(
        kubeconfig=found.kubeconfig,
        context=found.context,
        in_cluster=found.kubeconfig is None,
        namespace=found.namespace,
        timeout=found.timeout,
    )


def elasticache(service: Service) -> ReplicationGroups:
    """A client of the service's ElastiCache."""
    found = _said(service.elasticache, f"which ElastiCache {service.name} is")
    return ReplicationGroups(found.replication_group, found.region, found.endpoint_url, found.timeout)


def _said(value: T | None, what: str) -> T:
    if value is None:
        raise TargetError(f"the inventory does not say {what}")
    return value
