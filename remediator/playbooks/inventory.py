"""The model of the inventory: services, their platforms, their dependencies and their endpoints.

Relative paths start at the folder of the inventory. Only its services can be targets; a label cannot add one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, PrivateAttr, ValidationInfo, model_validator

from remediator.clients.endpoints import Endpoint, GitHub, RedisEndpoint, TlsSettings
from remediator.clients.kubernetes.kinds import WorkloadKind
from remediator.clients.kubernetes.settings import ClusterSettings
from remediator.clients.postgres.settings import PostgresEndpoint
from remediator.clients.ssh.settings import Host, SshSettings
from remediator.core.graph import shortest_cycle
from remediator.core.types import (
    Duration,
    FieldError,
    FilePath,
    Pattern,
    PositiveDuration,
    SecretFile,
    Strict,
    raise_all,
)
from remediator.core.urls import Url
from remediator.errors import ConfigurationError
from remediator.playbooks.diagnostics import did_you_mean
from remediator.playbooks.discovery import AnyDiscovery, fits
from remediator.playbooks.endpoint_addresses import fixed_addresses
from remediator.playbooks.field_types import Name, as_list
from remediator.playbooks.service_index import ServiceFacts, ServiceIndex
from remediator.playbooks.tolerance import Tolerance

ServiceName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]


class SupervisorBinding(Strict):
    """A program of supervisord."""

    kind: Literal["supervisor"] = Field(description="Kind of the platform.")
    url: Url = Field(description="Such as unix:///path/of/socket or http://host:port.")
    program: str = Field(min_length=1, description="Name of the program, or group:name.")
    username: str | None = Field(default=None, description="User name of [inet_http_server] or of the socket.")
    password_file: SecretFile | None = Field(default=None, description="File that contains the password.")

    @model_validator(mode="after")
    def _check_credentials(self) -> SupervisorBinding:
        if self.username is not None and self.password_file is None:
            raise FieldError("username needs password_file", ("username",))
        return self


class DockerBinding(Strict):
    """Containers of a Compose service, or containers with your own labels; ``instances`` sets their number."""

    kind: Literal["docker"] = Field(description="Kind of the platform.")
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
    def _check_selection(self) -> DockerBinding:
        if self.project is None and not self.labels:
            raise FieldError(
                "neither project nor labels is set",
                hint="set one; without both, every container of the host would match",
            )
        if self.project is None and self.service is not None:
            raise FieldError("service needs project", ("service",))
        return self


class KubernetesBinding(ClusterSettings):
    """A Deployment, a StatefulSet or a DaemonSet in one namespace; a Deployment also by the labels of its pods."""

    kind: Literal["kubernetes"] = Field(description="Kind of the platform.")
    namespace: str = Field(min_length=1, description="Namespace; all namespaces at once is not possible.")
    deployment: str | None = Field(default=None, min_length=1, description="Name of the Deployment.")
    statefulset: str | None = Field(default=None, min_length=1, description="Alternative: name of the StatefulSet.")
    daemonset: str | None = Field(default=None, min_length=1, description="Alternative: name of the DaemonSet.")
    selector: dict[str, str] = Field(
        default={}, description="Alternative: labels of the pods of a Deployment; all must match."
    )

    @model_validator(mode="after")
    def _check_selection(self) -> KubernetesBinding:
        ways = ("deployment", "statefulset", "daemonset", "selector")
        chosen = [name for name in ways if getattr(self, name)]
        if len(chosen) != 1:
            message = f"{' and '.join(chosen)} are set" if chosen else f"none of {', '.join(ways)} is set"
            raise FieldError(message, hint="set one; without any, every pod of the namespace would match")
        return self

    @property
    def workload_kind(self) -> WorkloadKind:
        """The kind of the workload."""
        if self.statefulset is not None:
            return WorkloadKind.STATEFUL_SET
        return WorkloadKind.DEPLOYMENT if self.daemonset is None else WorkloadKind.DAEMON_SET

    @property
    def workload_name(self) -> str:
        """The name of the workload; empty if only the labels of its pods are known."""
        return self.deployment or self.statefulset or self.daemonset or ""


def _node_pattern(value: str) -> str:
    if not value.strip("*?"):
        raise ValueError("would allow every node; write the beginning of the names too, for example worker-*")
    return value


class KubernetesNodesBinding(ClusterSettings):
    """Nodes of a cluster that may be cordoned and drained. No other node is ever changed."""

    kind: Literal["kubernetes_nodes"] = Field(description="Kind of the platform.")
    nodes: tuple[
        Annotated[str, Field(pattern=r"^[a-z0-9*?]([a-z0-9.*?-]*[a-z0-9*?])?$"), AfterValidator(_node_pattern)], ...
    ] = Field(min_length=1, description="Names of the nodes, or shell patterns such as worker-*.")
    max_cordoned: int = Field(
        default=1,
        ge=1,
        description="How many of these nodes may be cordoned at once, counting those that other programs or people "
        "cordoned.",
    )
    evict_unmanaged: bool = Field(
        default=False,
        description="Whether a drain may evict pods that no controller creates again, as kubectl drain --force does.",
    )
    delete_local_data: bool = Field(
        default=False,
        description="Whether a drain may evict pods with an emptyDir volume, whose data is lost, as kubectl drain "
        "--delete-emptydir-data does.",
    )

    def allows(self, node: str) -> bool:
        """Return whether a node may be changed."""
        return any(fnmatchcase(node, pattern) for pattern in self.nodes)


class SystemdBinding(Strict):
    """A systemd unit on this host, or on the ``host`` of the service."""

    kind: Literal["systemd"] = Field(description="Kind of the platform.")
    unit: str = Field(
        pattern=r"^[A-Za-z0-9:_.@-]+\.(service|socket|target)$",
        description="Name of the unit, for example redis.service.",
    )


Binding = Annotated[
    SupervisorBinding | DockerBinding | KubernetesBinding | KubernetesNodesBinding | SystemdBinding,
    Field(discriminator="kind"),
]


class HttpEndpoint(Strict):
    """The HTTP endpoint of a service."""

    url: Url = Field(description="URL, for example http://host:port, with the route prefix if there is one.")
    ready: str = Field(default="/readyz", pattern="^/", description="Path of the readiness probe.")
    live: str = Field(default="/livez", pattern="^/", description="Path of the liveness probe.")
    metrics: str = Field(default="/metrics", pattern="^/", description="Path of the Prometheus metrics.")
    in_flight: str | None = Field(
        default=None,
        min_length=1,
        description="PromQL expression for the number of requests in progress, with one series as its result, for "
        'example sum(app_requests_in_progress{job="app"}). Plans show it as the cost of a restart.',
    )


class AppServer(Strict):
    """A gunicorn master process. Signals increase or decrease the number of its workers."""

    pid_file: FilePath = Field(description="File with the process ID of the master.")
    min_workers: int = Field(default=1, ge=1, le=512, description="Minimum number of workers.")
    max_workers: int = Field(default=8, ge=1, le=512, description="Maximum number of workers.")

    @model_validator(mode="after")
    def _check_limits(self) -> AppServer:
        if self.min_workers > self.max_workers:
            raise FieldError(f"min_workers {self.min_workers} is greater than max_workers {self.max_workers}")
        return self


class Disk(Strict):
    """The filesystem with the data of a service: a folder of this host, or a volume of a Kubernetes cluster."""

    path: FilePath | None = Field(
        default=None, description="A folder on the filesystem; for Redis, its dir. With an agent: in its container."
    )
    claim: str | None = Field(
        default=None,
        pattern="^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$",
        description="Kubernetes: name of the PersistentVolumeClaim. Its usage comes from the metrics of the kubelet in "
        "Prometheus; its files can be read only by an agent. Alternative: path.",
    )
    agent: Endpoint | None = Field(
        default=None,
        description="Agent in the pod of the service, which reads usage and files of path, and moves backups.",
    )
    full_percent: int = Field(default=90, ge=1, le=99, description="Usage in percent from which the check fails.")

    @model_validator(mode="after")
    def _check_kind(self) -> Disk:
        if self.agent is not None:
            if self.path is None:
                raise FieldError("agent is set without path", hint="set path, for example /data")
        elif (self.path is None) == (self.claim is None):
            message = "both path and claim are set" if self.path else "neither path nor claim is set"
            raise FieldError(message, hint="set one of the two; with an agent, both are possible")
        return self


class Backups(Strict):
    """Backup files that can be moved to quarantine and later deleted, to free space. No other folder is touched."""

    path: FilePath = Field(description="Folder; links out of it are not followed.")
    pattern: str = Field(
        default="*.rdb", pattern=r"^[^/]+$", description="Shell pattern for the names of the files, without a path."
    )
    keep: int = Field(default=3, ge=1, description="Number of the newest files to keep.")
    verify: Literal["redis-rdb", "none"] = Field(
        default="redis-rdb", description="How to verify the newest file before an older one is removed."
    )
    quarantine: FilePath | None = Field(
        default=None, description="Folder on another filesystem to move files to first; default: beside the files."
    )
    grace: Duration = Field(
        default=timedelta(days=1), description="Minimum time in quarantine; the next prune then deletes the files."
    )


class Nginx(Strict):
    """The nginx in front of a service, with one included file that remediator writes."""

    include: FilePath = Field(description="Included file; its content is one of a fixed set.")
    binary: FilePath | None = Field(default=None, description="nginx binary, to test a configuration; default: nginx.")
    config: FilePath | None = Field(default=None, description="Main configuration file; default: the default of nginx.")
    pid_file: FilePath | None = Field(default=None, description="File with the process ID of the master.")
    service: str | None = Field(default=None, description="Service of nginx in this inventory, if there is one.")
    zone: str = Field(default="app", pattern=r"^[a-z][a-z0-9_]*$", description="Name of the limit_req zone.")


class ElastiCache(Strict):
    """A replication group of Amazon ElastiCache. Credentials come from the default chain of boto3, never from here."""

    replication_group: str = Field(pattern=r"^[A-Za-z][A-Za-z0-9-]{0,39}$", description="ID of the replication group.")
    region: str | None = Field(
        default=None, pattern=r"^[a-z0-9-]+$", description="AWS region; default: from the environment."
    )
    endpoint_url: Url | None = Field(default=None, description="URL of a compatible server; default: AWS.")
    timeout: PositiveDuration = Field(default=timedelta(seconds=10), description="Timeout of one call.")


class ArgoCd(ClusterSettings):
    """The Argo CD Application that deploys a service."""

    application: str = Field(min_length=1, description="Name of the Application.")
    namespace: str = Field(default="argocd", min_length=1, description="Namespace of the Application itself.")


class Flux(ClusterSettings):
    """The Flux object that deploys a service."""

    kind: Literal["Kustomization", "HelmRelease"] = Field(description="Kind of the object.")
    name: str = Field(min_length=1, description="Name of the object.")
    namespace: str = Field(default="flux-system", min_length=1, description="Namespace of the object itself.")


class Deployment(Strict):
    """Folders with the releases of a service, for rollbacks on platforms without a release history."""

    releases: FilePath = Field(description="Folder that contains one folder for each release.")
    current: FilePath = Field(description="Link to the folder of the current release.")


_ONLY_HERE = ("app_server", "nginx", "releases")
"""Parts of a service whose files and processes are reached on this host only."""


class JobTemplate(Strict):
    """A Kubernetes Job that playbooks may create from a manifest, in the namespace of the service."""

    manifest: FilePath = Field(description="File with one Job (batch/v1). Its name and namespace are replaced.")
    values: dict[Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")], Pattern] = Field(
        default={},
        description="Environment variables that a playbook sets in all containers: name, and RE2 pattern that the "
        "whole value must match.",
    )
    timeout: PositiveDuration = Field(
        default=timedelta(minutes=10), description="Time after which Kubernetes stops the Job (activeDeadlineSeconds)."
    )
    keep: PositiveDuration = Field(
        default=timedelta(days=1),
        description="How long the ended Job and its logs stay in the cluster (ttlSecondsAfterFinished).",
    )
    destructive: bool = Field(
        default=True, description="Whether it may lose data. Then each Job needs an approval, and the target's name."
    )
    interrupts: bool = Field(
        default=True,
        description="Whether it interrupts the service or its clients. By how much is not measured, so each Job needs "
        "an approval.",
    )
    risk: str = Field(
        default="", max_length=300, description="What may go wrong or get lost, in one sentence, for the approver."
    )


class Service(Strict):
    """One service, the target of actions."""

    name: str = Field(default="", description="Set from the key; do not write it.")
    platform: Binding = Field(description="Platform that runs the service.")
    host: Host | None = Field(
        default=None,
        description="Another host, on which the service runs; its systemd unit, disk, backups and commands with "
        "on_host are reached by SSH. Default: this host.",
    )
    depends_on: tuple[str, ...] = Field(default=(), description="Services that this service needs.")
    owner: str = Field(default="", description="Channel of the settings file that is notified by default.")
    instances: int = Field(default=1, ge=1, description="Desired number of instances.")
    minimum_healthy: int = Field(default=0, ge=0, description="Minimum number of healthy instances during a run.")
    tolerance: Tolerance = Field(
        default=Tolerance(),
        description="Losses that need no approval, for all playbooks; a step can replace single limits.",
    )
    alerts_as: dict[str, str] = Field(
        default={}, description="Labels of alerts about this service; default: service=<name>."
    )
    alert_label_values: dict[str, Annotated[tuple[str, ...], BeforeValidator(as_list)]] = Field(
        default={},
        description="Values that a label of an alert about it may have, for example instance: [10.0.0.5:9100] or "
        "pod: [redis-*]. An alert with another value is about something else and is never acted on.",
    )
    redis: RedisEndpoint | None = Field(default=None, description="Redis endpoint.")
    redis_exporter: dict[str, str] = Field(
        default={},
        description="Labels of the redis_exporter series of this Redis in Prometheus, for example job: redis-exporter. "
        "The last values tell what a restart of a hung Redis would lose.",
    )
    postgres: PostgresEndpoint | None = Field(
        default=None, description="PostgreSQL server, with the statements that playbooks may run on it."
    )
    http: HttpEndpoint | None = Field(default=None, description="HTTP endpoint.")
    app_server: AppServer | None = Field(default=None, description="Gunicorn master process.")
    disk: Disk | None = Field(default=None, description="Filesystem of the data.")
    backups: Backups | None = Field(default=None, description="Backup files.")
    nginx: Nginx | None = Field(default=None, description="nginx in front of the service.")
    releases: Deployment | None = Field(default=None, description="Release folders.")
    argocd: ArgoCd | None = Field(default=None, description="Argo CD Application that deploys the service.")
    flux: Flux | None = Field(default=None, description="Flux object that deploys the service.")
    jobs: dict[Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]{0,28}[a-z0-9])?$")], JobTemplate] | None = Field(
        default=None,
        description="Kubernetes Jobs that playbooks may create, by name. The platform must be kubernetes.",
    )
    github: GitHub | None = Field(default=None, description="Repository whose workflows deploy the service.")
    elasticache: ElastiCache | None = Field(
        default=None, description="ElastiCache replication group that the service is or uses."
    )

    _index: ServiceIndex | None = PrivateAttr(default=None)
    _shared: frozenset[str] = PrivateAttr(default=frozenset())

    @model_validator(mode="after")
    def _jobs_run_somewhere(self) -> Service:
        if self.jobs and not isinstance(self.platform, KubernetesBinding):
            raise FieldError(f"a service on {self.platform.kind} cannot have jobs", ("jobs",), hint="remove jobs")
        return self

    @property
    def shared_keys(self) -> frozenset[str]:
        """Return the keys whose values are from ``defaults`` of the inventory."""
        return self._shared

    def is_neighbour(self, address: str) -> bool:
        """Return whether an address belongs to another service: an alert with this address is about that service."""
        kinds = [kind for kind, endpoint in self._endpoints.items() if endpoint is not None]
        return self._index is not None and self._index.is_neighbour(self.name, kinds, address)

    @property
    def facts(self) -> ServiceFacts:
        """Return what the index of the inventory needs to know about this service."""
        endpoints = self._endpoints.items()
        found = ((kind, fixed_addresses([each])[1]) for kind, each in endpoints if each is not None)
        addresses = tuple((kind, address) for kind, each in found for address in each)
        return ServiceFacts(self.name, self.depends_on, tuple(self.alert_labels.items()), addresses)

    @property
    def _endpoints(self) -> Mapping[str, RedisEndpoint | PostgresEndpoint | HttpEndpoint | None]:
        return {"redis": self.redis, "postgres": self.postgres, "http": self.http}

    def problems(self) -> Iterator[FieldError]:
        """Yield which values of this service, with the shared ones, cannot be true together, with their paths in it."""
        if self.minimum_healthy > self.instances:
            message = f"minimum_healthy {self.minimum_healthy} is greater than instances {self.instances}"
            yield FieldError(message, ("minimum_healthy",))
        if self.host is None:
            return
        if missing := " and no ".join(self.host.missing):
            yield FieldError(f"the host has no {missing}", ("host",), hint="set it here, or in defaults.ssh")
        for name in _ONLY_HERE:
            if getattr(self, name) is not None:
                message = f"{name} of a service on another host cannot be reached"
                yield FieldError(message, (name,), hint="remove it, or run the service on this host")
        if self.disk is not None and self.disk.agent is not None:
            yield FieldError("both host and agent are set", ("disk", "agent"), hint="remove one of the two")

    @property
    def alert_labels(self) -> Mapping[str, str]:
        """Return the labels of alerts about this service."""
        return self.alerts_as or {"service": self.name}

    def matches_alert(self, labels: Mapping[str, str]) -> bool:
        """Return whether an alert with these labels is about this service."""
        return all(labels.get(label) == value for label, value in self.alert_labels.items())


class Defaults(Service):
    """Values of all services that do not set a key themselves, written or discovered."""

    platform: Binding | None = Field(default=None, description="Platform that runs the services.")  # type: ignore[assignment]
    ssh: SshSettings = Field(
        default=SshSettings(), description="How to connect to hosts; the host of a service can replace single settings."
    )

    @model_validator(mode="after")
    def _without_name(self) -> Defaults:
        if "name" in self.model_fields_set:
            raise FieldError("unknown key 'name'", ("name",), hint="remove it", rule="unknown-key", at_key=True)
        return self

    def complete(self, service: Service) -> Service:
        """Return a service with the values that it does not set itself."""
        missing = self.model_fields_set - service.model_fields_set - {"ssh"}
        host = self.host if "host" in missing else service.host
        if not missing and (host is None or "ssh" not in self.model_fields_set):
            return service
        values = {key: getattr(self, key) for key in missing}
        if host is not None:
            values["host"] = host.completed(self.ssh)
        made = service.model_copy(update=values)
        made._shared = frozenset(missing)
        return made


_MAX_NAMES = 20


class Inventory(Strict):
    """All services that can be targets of actions."""

    apiVersion: Literal["remediator/v1"] = Field(description="Version of the inventory format.")
    kind: Literal["Inventory"] = Field(description="Kind of the file.")
    environment: str | None = Field(
        default=None, description="Environment, for readers; the settings file selects the mode."
    )
    defaults: Defaults = Field(default=Defaults(), description="Values that services share; their own come first.")
    services: Mapping[ServiceName, Service] = Field(description="Services, by name.")
    discover: dict[Name, AnyDiscovery] = Field(
        default={}, description="Sources of further services, by a name of your choice."
    )

    _index: ServiceIndex = PrivateAttr(default=ServiceIndex(()))
    _base: Path | None = PrivateAttr(default=None)

    @model_validator(mode="before")
    @classmethod
    def _set_names(cls, data: object) -> object:
        if isinstance(data, dict) and isinstance(data.get("services"), dict):
            services = {
                name: {"name": name, **service} if isinstance(service, dict) else service
                for name, service in data["services"].items()
            }
            return {**data, "services": services}
        return data

    @model_validator(mode="after")
    def _consistent(self, info: ValidationInfo) -> Inventory:
        self._base = (info.context or {}).get("base")
        completed = {name: self.defaults.complete(service) for name, service in self.services.items()}
        self.__dict__["services"] = completed
        raise_all(tuple(self._wrong_services()))
        self._index = ServiceIndex([service.facts for service in completed.values()])
        raise_all(tuple(self._cycles()))
        for service in completed.values():
            service._index = self._index
        return self

    def _wrong_services(self) -> Iterator[FieldError]:
        for name, service in self.services.items():
            for at, other in enumerate(service.depends_on):
                if other not in self.services:
                    place = ("services", name, "depends_on", at)
                    yield FieldError(
                        f"unknown service {other!r}",
                        place,
                        hint=did_you_mean(other, self.services),
                        rule="unknown-service",
                    )
            if service.name != name:
                yield FieldError(
                    f"the name of this service is {name!r}", ("services", name, "name"), hint="remove name"
                )
            yield from (replace(each, path=("services", name, *each.path)) for each in service.problems())

    def _cycles(self) -> Iterator[FieldError]:
        reported: set[str] = set()
        candidates = self._index.in_or_between_cycles()
        for name in (name for name in self.services if name in candidates):
            cycle = shortest_cycle(self._index.needs, name)
            if cycle and not reported.intersection(cycle):
                reported.update(cycle)
                at = self.services[cycle[0]].depends_on.index(cycle[1])
                message = f"services depend on each other in a cycle: {' -> '.join(cycle)}"
                yield FieldError(message, ("services", cycle[0], "depends_on", at), rule="dependency-cycle")

    def __contains__(self, name: object) -> bool:
        return name in self.services

    def service(self, name: str) -> Service:
        """Return a service by its name.

        Raises:
            ConfigurationError: the inventory does not contain the service.
        """
        try:
            return self.services[name]
        except KeyError:
            raise ConfigurationError(f"unknown service {name!r}; known: {self.known_names}") from None

    @cached_property  # a storm may name many unknown services
    def known_names(self) -> str:
        """Return the first names for a message."""
        names = sorted(self.services)
        more = f" and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else ""
        return ", ".join(names[:_MAX_NAMES]) + more if names else "none"

    def may_contain(self, name: str) -> bool:
        """Return whether the inventory contains a service, or a target with this name may be discovered."""
        return name in self or any(fits(each, name) for item in self.discover.values() for each in item.allow.names)

    def source_of(self, name: str) -> str:
        """Return the name of the discovery that a service comes from; empty if it is written."""
        return ""

    def version_of(self, discovery: str) -> str:
        """Return the version of the targets of a discovery; empty if no look-up has found any yet."""
        return ""

    def found_by(self, discovery: str) -> set[str]:
        """Return the names of the services of a discovery."""
        return set()

    @property
    def typical(self) -> tuple[Service, ...]:
        """Return services that together name every file of the inventory: the written ones, one of each discovery."""
        return tuple(self.services.values())

    @property
    def base(self) -> Path | None:
        """Return the folder at which relative paths start."""
        return self._base

    def dependencies(self, name: str) -> tuple[str, ...]:
        """Return all services that a service needs, directly or indirectly, the nearest first."""
        return self._index.dependencies(name)

    def dependents(self, name: str) -> tuple[str, ...]:
        """Return all services that need a service, directly or indirectly, the nearest first."""
        return self._index.dependents(name)

    def services_for(self, labels: Mapping[str, str]) -> tuple[Service, ...]:
        """Return the services that an alert with these labels is about."""
        named = (self.services[name] for name in self._index.named_by(labels))
        return tuple(service for service in named if service.matches_alert(labels))
