"""The inventory: services by name, what they run on, what they depend on, and where their ends are.

A relative file is beside the inventory. What is not in here cannot be a target, and no label can put it here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from functools import cached_property
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from remediator.clients.endpoints import GitHub, RedisEndpoint, TlsSettings, checked_url
from remediator.core.types import Duration, FieldError, FilePath, PositiveDuration, Strict, raise_all
from remediator.errors import ConfigurationError

Url = Annotated[str, AfterValidator(checked_url)]
ServiceName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]


class SupervisorBinding(Strict):
    """A program of supervisord."""

    kind: Literal["supervisor"]
    url: Url = Field(description="Such as unix:///path/of/socket or http://host:port.")
    program: str = Field(min_length=1, description="Name of the program, or group:name.")
    username: str | None = Field(default=None, description="User name of [inet_http_server] or of the socket.")
    password_file: FilePath | None = Field(default=None, description="File that contains the password.")

    @model_validator(mode="after")
    def _who(self) -> SupervisorBinding:
        if self.username is not None and self.password_file is None:
            raise FieldError("username needs password_file", ("username",))
        return self


class DockerBinding(Strict):
    """Containers of a Compose service, or containers with your own labels; ``instances`` sets their number."""

    kind: Literal["docker"]
    url: Url = Field(default="unix:///var/run/docker.sock", description="URL of the Engine API, or of a proxy for it.")
    tls: TlsSettings = Field(default=TlsSettings(), description="For https: trusted CA and client certificate.")
    project: str | None = Field(default=None, min_length=1, description="Compose project.")
    service: str | None = Field(
        default=None, min_length=1, description="Compose service; default: the name of this service."
    )
    labels: dict[str, str] = Field(default={}, description="Labels of the containers.")
    timeout: Duration = Field(
        default=timedelta(seconds=10), description="Timeout of one call, in addition to the stop time."
    )

    @model_validator(mode="after")
    def _some(self) -> DockerBinding:
        if self.project is None and not self.labels:
            raise FieldError("neither project nor labels", hint="nothing would mean every container of the host")
        if self.project is None and self.service is not None:
            raise FieldError("service needs project", ("service",))
        return self


class KubernetesBinding(Strict):
    """A Deployment, or the pods of a label selector, in one namespace."""

    kind: Literal["kubernetes"]
    namespace: str = Field(min_length=1, description="Namespace; all namespaces at once is not possible.")
    deployment: str | None = Field(default=None, min_length=1, description="Name of the Deployment.")
    selector: dict[str, str] = Field(default={}, description="Alternative: labels of its pods; all must match.")
    kubeconfig: FilePath | None = Field(
        default=None, description="Path of the kubeconfig; default: service account of the pod."
    )
    context: str | None = Field(default=None, description="Context of the kubeconfig; default: its current one.")
    timeout: Duration = Field(default=timedelta(seconds=10), description="Timeout of one call.")

    @model_validator(mode="after")
    def _one(self) -> KubernetesBinding:
        if (self.deployment is None) == (not self.selector):
            both = "both deployment and selector are given" if self.selector else "neither deployment nor selector"
            raise FieldError(both, hint="give one of the two; nothing would mean every pod of the namespace")
        return self


class SystemdBinding(Strict):
    """A systemd unit on this host."""

    kind: Literal["systemd"]
    unit: str = Field(
        pattern=r"^[A-Za-z0-9:_.@-]+\.(service|socket|target)$",
        description="Name of the unit, for example redis.service.",
    )


Binding = Annotated[SupervisorBinding | DockerBinding | KubernetesBinding | SystemdBinding, Field(discriminator="kind")]


class HttpEndpoint(Strict):
    """Where a service answers HTTP."""

    url: Url = Field(description="http://host:port, with its route prefix if it has one.")
    ready: str = Field(default="/readyz", pattern="^/", description="Path that says whether it can serve.")
    live: str = Field(default="/livez", pattern="^/", description="Path that says whether it is alive.")
    metrics: str = Field(default="/metrics", pattern="^/", description="Path of its Prometheus metrics.")


class AppServer(Strict):
    """A gunicorn master, whose workers can be made more and fewer by signal."""

    pid_file: FilePath = Field(description="File with the process id of the master.")
    min_workers: int = Field(default=1, ge=1, le=512, description="Never fewer workers than this.")
    max_workers: int = Field(default=8, ge=1, le=512, description="Never more workers than this.")

    @model_validator(mode="after")
    def _order(self) -> AppServer:
        if self.min_workers > self.max_workers:
            raise FieldError(f"min_workers {self.min_workers} is more than max_workers {self.max_workers}")
        return self


class Disk(Strict):
    """The filesystem that a service keeps its data on."""

    path: FilePath = Field(description="A folder on it; for Redis, its dir.")
    warn_percent: int = Field(default=80, ge=1, le=99, description="So full is worth a remark.")
    full_percent: int = Field(default=90, ge=1, le=99, description="So full is a fault.")


class Backups(Strict):
    """Backup files that may be moved away, and later deleted, to make room: the only folder where that is allowed."""

    path: FilePath = Field(description="The folder; links out of it are not followed.")
    pattern: str = Field(default="*.rdb", pattern=r"^[^/]+$", description="Names of the files, as in a shell; no path.")
    keep: int = Field(default=3, ge=1, description="Always leave so many of the newest.")
    verify: Literal["redis-rdb", "none"] = Field(
        default="redis-rdb", description="How the newest is proved usable before any other goes."
    )
    quarantine: FilePath | None = Field(
        default=None, description="Folder that they are moved to first, on another filesystem; default: beside them."
    )
    grace: Duration = Field(
        default=timedelta(days=1), description="How long they stay there at least; the next prune deletes them."
    )


class Nginx(Strict):
    """An nginx before a service, with one included file that is ours to write."""

    include: FilePath = Field(description="The included file; its content is one of a fixed set.")
    binary: FilePath | None = Field(default=None, description="nginx itself, to test a configuration; default: nginx.")
    config: FilePath | None = Field(default=None, description="Its main configuration file; default: its own.")
    pid_file: FilePath | None = Field(default=None, description="File with the process id of its master.")
    service: str | None = Field(default=None, description="Its own service in this inventory, if it has one.")
    zone: str = Field(default="app", pattern=r"^[a-z][a-z0-9_]*$", description="The limit_req zone.")


class ElastiCache(Strict):
    """A replication group of Amazon ElastiCache. Who we are is found by boto3's own chain, never written here."""

    replication_group: str = Field(pattern=r"^[A-Za-z][A-Za-z0-9-]{0,39}$", description="Its id.")
    region: str | None = Field(default=None, pattern=r"^[a-z0-9-]+$", description="Default: what the environment says.")
    endpoint_url: Url | None = Field(default=None, description="Of a server that speaks it, if it is not Amazon's.")
    timeout: PositiveDuration = Field(default=timedelta(seconds=10), description="Timeout of one call.")


class ArgoCd(Strict):
    """The Argo CD Application that deploys a service."""

    application: str = Field(min_length=1, description="Its name.")
    namespace: str = Field(default="argocd", min_length=1, description="Where the Application is, not what it deploys.")
    kubeconfig: FilePath | None = Field(
        default=None, description="Path of the kubeconfig; default: service account of the pod."
    )
    context: str | None = Field(default=None, description="Context of the kubeconfig; default: its current one.")
    timeout: PositiveDuration = Field(default=timedelta(seconds=10), description="Timeout of one call.")


class Flux(Strict):
    """The Flux object that deploys a service."""

    kind: Literal["Kustomization", "HelmRelease"] = Field(description="Which of the two.")
    name: str = Field(min_length=1, description="Its name.")
    namespace: str = Field(default="flux-system", min_length=1, description="Where it is, not what it deploys.")
    kubeconfig: FilePath | None = Field(
        default=None, description="Path of the kubeconfig; default: service account of the pod."
    )
    context: str | None = Field(default=None, description="Context of the kubeconfig; default: its current one.")
    timeout: PositiveDuration = Field(default=timedelta(seconds=10), description="Timeout of one call.")


class Deployment(Strict):
    """Where releases of a service can be seen and put back, on platforms that do not keep them themselves."""

    releases: FilePath = Field(description="Folder with one folder for each release.")
    current: FilePath = Field(description="The link that names the release in use.")


class Service(Strict):
    """One service: a thing that actions work on."""

    name: str = Field(default="", description="Filled in from the key; do not write it.")
    platform: Binding = Field(description="What it runs on.")
    depends_on: tuple[str, ...] = Field(default=(), description="Services that this one cannot work without.")
    owner: str = Field(default="", description="Who is told of it by default: a channel of the settings file.")
    instances: int = Field(default=1, ge=1, description="How many of it there should be.")
    minimum_healthy: int = Field(default=0, ge=0, description="Instances that must stay up whatever is done.")
    alerts_as: dict[str, str] = Field(
        default={}, description="Labels by which alerts about it are known; default: service=<its name>."
    )
    redis: RedisEndpoint | None = Field(default=None, description="Where its Redis answers.")
    http: HttpEndpoint | None = Field(default=None, description="Where it answers HTTP.")
    app_server: AppServer | None = Field(default=None, description="Its gunicorn master.")
    disk: Disk | None = Field(default=None, description="The filesystem of its data.")
    backups: Backups | None = Field(default=None, description="Its backup files.")
    nginx: Nginx | None = Field(default=None, description="The nginx before it.")
    releases: Deployment | None = Field(default=None, description="Its releases.")
    argocd: ArgoCd | None = Field(default=None, description="The Argo CD Application that deploys it.")
    flux: Flux | None = Field(default=None, description="The Flux object that deploys it.")
    github: GitHub | None = Field(default=None, description="The repository whose workflows deploy it.")
    elasticache: ElastiCache | None = Field(default=None, description="The ElastiCache that it is, or keeps data in.")

    @property
    def known_as(self) -> Mapping[str, str]:
        """The labels that an alert about this service has."""
        return self.alerts_as or {"service": self.name}

    def meant_by(self, labels: Mapping[str, str]) -> bool:
        """Whether an alert with these labels is about this service."""
        return all(labels.get(label) == value for label, value in self.known_as.items())


class Inventory(Strict):
    """All services that actions may touch."""

    apiVersion: Literal["remediator/v1"] = Field(description="The version of this language.")
    kind: Literal["Inventory"]
    environment: str | None = Field(default=None, description="For people; the settings file decides the ladder.")
    services: dict[ServiceName, Service] = Field(description="By name.")

    @model_validator(mode="before")
    @classmethod
    def _named(cls, data: object) -> object:
        if isinstance(data, dict) and isinstance(data.get("services"), dict):
            services = {
                name: {"name": name, **service} if isinstance(service, dict) else service
                for name, service in data["services"].items()
            }
            return {**data, "services": services}
        return data

    @model_validator(mode="after")
    def _consistent(self) -> Inventory:
        raise_all(tuple(self._strangers()) or tuple(self._circles()))
        return self

    def _strangers(self) -> Iterator[FieldError]:
        for name, service in self.services.items():
            for at, other in enumerate(service.depends_on):
                if other not in self.services:
                    place = ("services", name, "depends_on", at)
                    yield FieldError(
                        f"there is no service {other!r}", place, hint=_there_are(self), rule="unknown-service"
                    )
            if service.name != name:
                yield FieldError(f"the service is called {name!r}", ("services", name, "name"), hint="leave name out")
            if service.minimum_healthy > service.instances:
                message = f"minimum_healthy {service.minimum_healthy} is more than the {service.instances} instances"
                yield FieldError(message, ("services", name, "minimum_healthy"))

    def _circles(self) -> Iterator[FieldError]:
        reported: set[str] = set()
        for name in self.services:
            circle = _circle(self._depends_on, name)
            if circle and not reported.intersection(circle):
                reported.update(circle)
                at = self.services[circle[0]].depends_on.index(circle[1])
                message = f"services depend on each other in a circle: {' -> '.join(circle)}"
                yield FieldError(message, ("services", circle[0], "depends_on", at), rule="dependency-cycle")

    @cached_property
    def _depends_on(self) -> dict[str, tuple[str, ...]]:
        return {name: service.depends_on for name, service in self.services.items()}

    @cached_property
    def _needed_by(self) -> dict[str, tuple[str, ...]]:
        return {
            name: tuple(key for key, item in self.services.items() if name in item.depends_on) for name in self.services
        }

    def __contains__(self, name: object) -> bool:
        return name in self.services

    def service(self, name: str) -> Service:
        """The service of this name.

        Raises:
            ConfigurationError: there is none.
        """
        try:
            return self.services[name]
        except KeyError:
            raise ConfigurationError(f"there is no service {name!r} in the inventory; {_there_are(self)}") from None

    def causes(self, name: str) -> tuple[str, ...]:
        """All services that this one depends on, directly or not, the nearest first."""
        return _reach(self._depends_on, name)

    def dependants(self, name: str) -> tuple[str, ...]:
        """All services that depend on this one, directly or not, the nearest first."""
        return _reach(self._needed_by, name)

    def about(self, labels: Mapping[str, str]) -> tuple[Service, ...]:
        """The services that an alert with these labels is about."""
        return tuple(service for service in self.services.values() if service.meant_by(labels))


def _there_are(inventory: Inventory) -> str:
    return f"there are: {', '.join(sorted(inventory.services)) or 'none'}"


def _reach(graph: Mapping[str, Iterable[str]], start: str) -> tuple[str, ...]:
    found = {start: None}
    for name in (queue := [start]):
        for other in graph[name]:
            if other not in found:
                found[other] = None
                queue.append(other)
    return tuple(found)[1:]


def _circle(graph: Mapping[str, Iterable[str]], start: str) -> tuple[str, ...]:
    """A way from a service back to itself, as its names, the first again at the end; empty if there is none."""
    came: dict[str, str] = {}
    for name in (queue := [start]):
        for other in graph[name]:
            if other == start:
                return (*_back(came, name, start), start)
            if other not in came:
                came[other] = name
                queue.append(other)
    return ()


def _back(came: Mapping[str, str], name: str, start: str) -> tuple[str, ...]:
    path = [name]
    while path[-1] != start:
        path.append(came[path[-1]])
    return tuple(reversed(path))
