"""The platforms of services in the inventory: what runs a service, and how it is found there."""

from __future__ import annotations

from datetime import timedelta
from fnmatch import fnmatchcase
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from remediator.clients.endpoints import TlsSettings
from remediator.clients.kubernetes.kinds import WorkloadKind
from remediator.clients.kubernetes.settings import ClusterSettings
from remediator.core.types import Duration, FieldError, SecretFile, Strict
from remediator.core.urls import Url


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
    """Containers of a Compose service, or containers with your own labels.

    The key ``instances`` of the service in the inventory states how many are expected.
    """

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
    """Nodes of a cluster that may be cordoned and drained.

    No other node is ever changed.
    """

    kind: Literal["kubernetes_nodes"] = Field(description="Kind of the platform.")
    nodes: tuple[
        Annotated[str, Field(pattern=r"^[a-z0-9*?]([a-z0-9.*?-]*[a-z0-9*?])?$"), AfterValidator(_node_pattern)], ...
    ] = Field(min_length=1, description="Names of the nodes, or shell patterns such as worker-*.")
    max_cordoned: int = Field(
        default=1,
        ge=1,
        description="How many of these nodes may be cordoned at once, including nodes that other programs or people "
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
