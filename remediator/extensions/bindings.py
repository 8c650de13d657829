"""The parts of the inventory entry of a service that actions need. Each function raises an error if it is missing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from remediator.clients.aws.elasticache import ReplicationGroups
from remediator.clients.github.client import Repository
from remediator.clients.gitops.client import Managed
from remediator.clients.host.folders import Folders
from remediator.clients.host.nginx import IncludedFile, NginxFiles
from remediator.clients.postgres.client import Postgres
from remediator.clients.redis.client import Redis
from remediator.clients.volume.client import AgentVolume, HostVolume
from remediator.clients.volume.files import LocalVolume, Volume
from remediator.errors import TargetError
from remediator.playbooks.inventory import Service
from remediator.playbooks.service_parts import AppServer, Backups, Disk, HttpEndpoint, JobTemplate, Nginx

T = TypeVar("T")


def redis(service: Service) -> Redis:
    """Return a client of the Redis of a service.

    Raises:
        TargetError: the inventory does not define it. The other functions raise the same error.
    """
    return Redis(_required(service, service.redis, "redis"))


def postgres(service: Service) -> Postgres:
    """Return a client of the PostgreSQL of a service."""
    return Postgres(_required(service, service.postgres, "postgres"))


def http(service: Service) -> HttpEndpoint:
    """Return the HTTP endpoint of a service."""
    return _required(service, service.http, "http")


def disk(service: Service) -> Disk:
    """Return the data disk of a service."""
    return _required(service, service.disk, "disk")


def disk_folder(service: Service) -> Path:
    """Return the folder of the data disk of a service on this host."""
    found = disk(service)
    if service.host is not None:
        raise TargetError(f"the disk of {service.name} is on the host {service.host}, whose files cannot be read here")
    if found.path is None or found.agent is not None:
        raise TargetError(f"the disk of {service.name} is a volume of the cluster, whose files cannot be read here")
    return found.path


def backups(service: Service) -> Backups:
    """Return the backups of a service."""
    return _required(service, service.backups, "backups")


def volume(service: Service) -> Volume:
    """Return access to the data folder and the backups of a service, as far as it has them."""
    data, found = service.disk, service.backups
    folders = Folders(None if data is None or data.path is None else str(data.path))
    if found is not None:
        quarantine = found.quarantine or found.path / ".quarantine"
        folders = Folders(folders.data, str(found.path), found.pattern, str(quarantine))
    if data is not None and data.agent is not None:
        return AgentVolume(data.agent, folders)
    if service.host is not None:
        return HostVolume(service.host, folders)
    return LocalVolume(folders)


def data_files(service: Service) -> Volume:
    """Return the files of a service whose data folder can be read, here or by an agent."""
    if disk(service).path is None:
        raise TargetError(
            f"the disk of {service.name} is a volume of the cluster, whose files cannot be read: "
            "set disk.agent and disk.path in the inventory"
        )
    return volume(service)


def app_server(service: Service) -> AppServer:
    """Return the gunicorn master of a service."""
    return _required(service, service.app_server, "app_server")


def nginx(service: Service) -> tuple[Nginx, IncludedFile]:
    """Return the nginx in front of a service, and the included file that the remediator writes."""
    found = _required(service, service.nginx, "nginx")
    pid_file = _required(service, found.pid_file, "nginx.pid_file")
    binary = "nginx" if found.binary is None else str(found.binary)
    return found, IncludedFile(NginxFiles(found.include, pid_file, binary, found.config))


def jobs(service: Service) -> Mapping[str, JobTemplate]:
    """Return the Kubernetes Jobs that playbooks may create for a service, by name."""
    return _required(service, service.jobs, "jobs")


def github(service: Service) -> Repository:
    """Return a client of the GitHub repository that deploys a service."""
    return Repository(_required(service, service.github, "github"))


def argocd(service: Service) -> Managed:
    """Return the Argo CD Application that deploys a service."""
    found = _required(service, service.argocd, "argocd")
    return Managed(found, found.namespace, "Application", found.application)


def flux(service: Service) -> Managed:
    """Return the Flux object that deploys a service."""
    found = _required(service, service.flux, "flux")
    return Managed(found, found.namespace, found.kind, found.name)


def elasticache(service: Service) -> ReplicationGroups:
    """Return a client of the ElastiCache replication group of a service."""
    found = _required(service, service.elasticache, "elasticache")
    return ReplicationGroups(found.replication_group, found.region, found.endpoint_url, found.timeout)


def _required(service: Service, value: T | None, key: str) -> T:
    if value is None:
        raise TargetError(f"service {service.name!r} has no {key!r} in the inventory; add it")
    return value
