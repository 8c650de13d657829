"""The model of the inventory: its services, their shared values and their dependencies.

Relative paths start at the folder of the inventory. Only its services can be targets; a label cannot add one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, PrivateAttr, ValidationInfo, model_validator

from remediator.clients.endpoints import GitHub, RedisEndpoint
from remediator.clients.postgres.settings import PostgresEndpoint
from remediator.clients.ssh.settings import Host, SshSettings
from remediator.core.graph import shortest_cycle
from remediator.core.text import join_names
from remediator.core.types import FieldError, Strict, raise_all
from remediator.errors import ConfigurationError
from remediator.playbooks.diagnostics import did_you_mean
from remediator.playbooks.discovery import AnyDiscovery, fits
from remediator.playbooks.endpoint_addresses import fixed_addresses
from remediator.playbooks.field_types import Name, as_list
from remediator.playbooks.platform_bindings import Binding, KubernetesBinding
from remediator.playbooks.service_index import ServiceFacts, ServiceIndex
from remediator.playbooks.service_parts import (
    AppServer,
    ArgoCd,
    Backups,
    Deployment,
    Disk,
    ElastiCache,
    Flux,
    HttpEndpoint,
    JobTemplate,
    Nginx,
)
from remediator.playbooks.tolerance import Tolerance

ServiceName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]


_ONLY_HERE = ("app_server", "nginx", "releases")
"""Parts of a service whose files and processes are reached on this host only."""


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
        "The last values show the loss if a hung Redis is restarted.",
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
        """Return the data of this service for the index of the inventory."""
        endpoints = self._endpoints.items()
        found = ((kind, fixed_addresses([each])[1]) for kind, each in endpoints if each is not None)
        addresses = tuple((kind, address) for kind, each in found for address in each)
        return ServiceFacts(self.name, self.depends_on, tuple(self.alert_labels.items()), addresses)

    @property
    def _endpoints(self) -> Mapping[str, RedisEndpoint | PostgresEndpoint | HttpEndpoint | None]:
        return {"redis": self.redis, "postgres": self.postgres, "http": self.http}

    def problems(self) -> Iterator[FieldError]:
        """Yield the contradictions between values of this service, including shared values, with their paths."""
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
        return join_names(sorted(self.services), _MAX_NAMES) or "none"

    def may_contain(self, name: str) -> bool:
        """Return whether the inventory contains a service, or a target with this name may be discovered."""
        return name in self or any(fits(each, name) for item in self.discover.values() for each in item.allow.names)

    def source_of(self, name: str) -> str:
        """Return the name of the discovery that a service comes from; empty if it is written."""
        return ""

    def version_of(self, discovery: str) -> str:
        """Return the version of the targets of a discovery; empty if no lookup has found any yet."""
        return ""

    def found_by(self, discovery: str) -> set[str]:
        """Return the names of the services of a discovery."""
        return set()

    @property
    def typical(self) -> tuple[Service, ...]:
        """Return services that name every file of the inventory: all written services, and one of each discovery."""
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
