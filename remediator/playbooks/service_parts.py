"""The parts of a service in the inventory: its endpoints, files, deployments and Jobs that actions and checks use."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import Field, model_validator

from remediator.clients.endpoints import Endpoint
from remediator.clients.kubernetes.settings import ClusterSettings
from remediator.core.types import Duration, FieldError, FilePath, Pattern, PositiveDuration, Strict
from remediator.core.urls import Url


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

    include: FilePath = Field(description="Included file; its content is one of a fixed list.")
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
        default=True,
        description="Whether it may lose data. Then each Job needs an approval for which the approver types the name "
        "of the target.",
    )
    interrupts: bool = Field(
        default=True,
        description="Whether it interrupts the service or its clients. By how much is not measured, so each Job needs "
        "an approval.",
    )
    risk: str = Field(
        default="", max_length=300, description="Possible damage or loss, in one sentence, for the approver."
    )
