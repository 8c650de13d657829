"""The inventory: services by name, what they run on, what they depend on, and where their ends are."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from remediator.clients.endpoint import FilePath, Strict
from remediator.clients.redis_wire import RedisEndpoint
from remediator.errors import ConfigurationError


class SupervisorBinding(Strict):
    """A program of a supervisord."""

    kind: Literal["supervisor"]
    url: str = Field(description="unix:///path/of/socket or http://host:port")
    program: str = Field(description="The program's name, or group:name.")
    username: str | None = None
    password_file: FilePath | None = None


class DockerBinding(Strict):
    """A container, found by its Compose labels or by labels of your own: exactly one, or an error."""

    kind: Literal["docker"]
    url: str = Field(default="unix:///var/run/docker.sock", description="The Engine's API, or a proxy before it.")
    project: str | None = Field(default=None, description="Compose project.")
    service: str | None = Field(default=None, description="Compose service; default: this service's name.")
    labels: dict[str, str] = {}


class KubernetesBinding(Strict):
    """A deployment in a namespace."""

    kind: Literal["kubernetes"]
    namespace: str
    deployment: str
    kubeconfig: FilePath | None = Field(default=None, description="Default: the pod's own service account.")
    context: str | None = None


class SystemdBinding(Strict):
    """A systemd unit on this host."""

    kind: Literal["systemd"]
    unit: str


Binding = Annotated[SupervisorBinding | DockerBinding | KubernetesBinding | SystemdBinding, Field(discriminator="kind")]


class HttpEndpoint(Strict):
    """Where a service answers HTTP."""

    url: str
    ready: str = "/readyz"
    live: str = "/livez"


class Service(Strict):
    """One service."""

    name: str = ""
    platform: Binding
    depends_on: tuple[str, ...] = Field(default=(), description="Services that this one cannot work without.")
    redis: RedisEndpoint | None = None
    http: HttpEndpoint | None = None
    minimum_healthy: int = Field(default=0, ge=0, description="Instances that must stay up whatever is done.")


class Inventory(Strict):
    """All services that actions may touch. What is not in here cannot be a target."""

    apiVersion: Literal["remediator/v1"]
    kind: Literal["Inventory"]
    services: dict[str, Service]

    @model_validator(mode="before")
    @classmethod
    def _named(cls, data: object) -> object:
        if isinstance(data, dict) and isinstance(data.get("services"), dict):
            services = {
                name: {**service, "name": name} if isinstance(service, dict) else service
                for name, service in data["services"].items()
            }
            return {**data, "services": services}
        return data

    @model_validator(mode="after")
    def _dependencies(self) -> Inventory:
        for service in self.services.values():
            for other in service.depends_on:
                if other not in self.services:
                    raise ValueError(f"services.{service.name}.depends_on: there is no service {other!r}")
        for name in self.services:
            self.causes(name)
        return self

    def service(self, name: str) -> Service:
        """The service of this name.

        Raises:
            ConfigurationError: there is none.
        """
        try:
            return self.services[name]
        except KeyError:
            known = ", ".join(sorted(self.services))
            raise ConfigurationError(f"there is no service {name!r} in the inventory; there are: {known}") from None

    def causes(self, name: str) -> tuple[str, ...]:
        """All services that this one depends on, directly or not.

        Raises:
            ValueError: it depends on itself; the message shows the circle.
        """
        found: list[str] = []
        self._collect(name, (name,), found)
        return tuple(found)

    def _collect(self, name: str, path: tuple[str, ...], found: list[str]) -> None:
        for other in self.services[name].depends_on:
            if other in path:
                raise ValueError(f"services depend on each other in a circle: {' -> '.join((*path, other))}")
            if other not in found:
                found.append(other)
                self._collect(other, (*path, other), found)

    def dependants(self, name: str) -> tuple[str, ...]:
        """All services that depend on this one, directly or not."""
        return tuple(other for other in self.services if name in self.causes(other))
