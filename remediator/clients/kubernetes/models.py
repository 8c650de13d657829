"""Typed answers of a Kubernetes API server, without environment variables and other fields that contain secrets."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from remediator.clients.http import Part
from remediator.errors import InputError

Document = Mapping[str, Any]
"""The server's complete document of an object, secrets included. Use it only to send it back."""


class Owner(Part, frozen=True, kw_only=True, rename="camel"):
    """Owner of an object."""

    kind: str
    name: str
    uid: str
    controller: bool = False


class Meta(Part, frozen=True, kw_only=True, rename="camel"):
    """Metadata of an object, with the version that was read."""

    name: str
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    creation_timestamp: datetime | None = None
    deletion_timestamp: datetime | None = None
    owner_references: tuple[Owner, ...] = ()

    @property
    def controller(self) -> Owner | None:
        """The owner that controls the object."""
        return next((owner for owner in self.owner_references if owner.controller), None)


class FieldManager(Part, frozen=True, kw_only=True, rename="camel"):
    """A program that manages fields of an object, with the time of its last change."""

    manager: str = ""
    operation: str = ""
    subresource: str = ""
    time: datetime | None = None
    fields_v1: dict[str, Any] = {}

    def manages(self, *path: str) -> bool:
        """Return whether it manages the field at this path, for example ``spec``, ``paused``."""
        found: Any = {} if self.subresource else self.fields_v1
        for name in path:
            found = found.get(f"f:{name}") if isinstance(found, dict) else None
        return found is not None


class Waiting(Part, frozen=True, kw_only=True, rename="camel"):
    """State of a container that waits to start, for example in CrashLoopBackOff."""

    reason: str = ""
    message: str = ""


class Running(Part, frozen=True, kw_only=True, rename="camel"):
    """State of a running container."""

    started_at: datetime | None = None


class Terminated(Part, frozen=True, kw_only=True, rename="camel"):
    """State of a terminated container. ``reason`` is for example Error, OOMKilled or Completed."""

    exit_code: int
    signal: int = 0
    reason: str = ""
    message: str = ""
    started_at: datetime | None = None
    finished_at: datetime | None = None


class ContainerState(Part, frozen=True, kw_only=True, rename="camel"):
    """State of a container: one of waiting, running and terminated."""

    waiting: Waiting | None = None
    running: Running | None = None
    terminated: Terminated | None = None


class ContainerStatus(Part, frozen=True, kw_only=True, rename="camel"):
    """Status of a container, with the state before its last restart."""

    name: str
    ready: bool
    restart_count: int
    image: str
    state: ContainerState = ContainerState()
    last_state: ContainerState = ContainerState()


class Condition(Part, frozen=True, kw_only=True, rename="camel"):
    """A condition of an object. ``status`` is True, False or Unknown."""

    type: str
    status: str
    reason: str = ""
    message: str = ""


class Resources(Part, frozen=True, kw_only=True, rename="camel"):
    """Limits of a container, as quantities of Kubernetes, for example ``memory: 64Mi``."""

    limits: dict[str, str] = {}


class Container(Part, frozen=True, kw_only=True, rename="camel"):
    """Specification of a container."""

    name: str
    image: str = ""
    resources: Resources = Resources()


class _PodSpec(Part, frozen=True, kw_only=True, rename="camel"):
    containers: tuple[Container, ...] = ()
    node_name: str = ""


class _PodStatus(Part, frozen=True, kw_only=True, rename="camel"):
    phase: str = ""
    reason: str = ""
    message: str = ""
    start_time: datetime | None = None
    conditions: tuple[Condition, ...] = ()
    container_statuses: tuple[ContainerStatus, ...] = ()
    init_container_statuses: tuple[ContainerStatus, ...] = ()


class Pod(Part, frozen=True, kw_only=True, rename="camel"):
    """One pod. ``status.phase`` is Pending, Running, Succeeded, Failed or Unknown."""

    metadata: Meta
    spec: _PodSpec = _PodSpec()
    status: _PodStatus = _PodStatus()

    @property
    def ready(self) -> bool:
        """Whether the pod has the condition Ready."""
        return any(each.type == "Ready" and each.status == "True" for each in self.status.conditions)


class Requirement(Part, frozen=True, kw_only=True, rename="camel"):
    """A requirement of a selector, such as ``key In (values)``."""

    key: str
    operator: str
    values: tuple[str, ...] = ()

    def __str__(self) -> str:
        forms = {"Exists": "{key}", "DoesNotExist": "!{key}", "In": "{key} in ({values})"}
        form = forms.get(self.operator, "{key} notin ({values})")
        return form.format(key=self.key, values=",".join(self.values))


class Selector(Part, frozen=True, kw_only=True, rename="camel"):
    """Selector of a workload's pods."""

    match_labels: dict[str, str] = {}
    match_expressions: tuple[Requirement, ...] = ()

    def __str__(self) -> str:
        """Return the selector in the API's syntax for queries."""
        labels = (f"{name}={value}" for name, value in self.match_labels.items())
        return ",".join((*labels, *map(str, self.match_expressions)))


class _TemplateMeta(Part, frozen=True, kw_only=True, rename="camel"):
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


class Template(Part, frozen=True, kw_only=True, rename="camel"):
    """Pod template of a workload, without secrets."""

    metadata: _TemplateMeta = _TemplateMeta()
    spec: _PodSpec = _PodSpec()


class _WorkloadSpec(Part, frozen=True, kw_only=True, rename="camel"):
    selector: Selector
    replicas: int = 1
    paused: bool = False
    template: Template = Template()


class _WorkloadStatus(Part, frozen=True, kw_only=True, rename="camel"):
    observed_generation: int = 0
    replicas: int = 0
    updated_replicas: int = 0
    available_replicas: int = 0
    conditions: tuple[Condition, ...] = ()


class Workload(Part, frozen=True, kw_only=True, rename="camel"):
    """A Deployment, StatefulSet or ReplicaSet."""

    metadata: Meta
    spec: _WorkloadSpec
    status: _WorkloadStatus = _WorkloadStatus()

    @property
    def revision(self) -> int | None:
        """Revision of a Deployment or of one of its ReplicaSets, or None."""
        text = self.metadata.annotations.get("deployment.kubernetes.io/revision", "")
        return int(text) if text.isdigit() else None

    @property
    def observed(self) -> bool:
        """Whether the status is about the current specification, not an older one."""
        return self.status.observed_generation >= self.metadata.generation

    def condition(self, type_: str) -> Condition | None:
        """Return the condition of this type."""
        return next((each for each in self.status.conditions if each.type == type_), None)


class _ScaleSpec(Part, frozen=True, kw_only=True, rename="camel"):
    replicas: int = 0


class _ScaleStatus(Part, frozen=True, kw_only=True, rename="camel"):
    replicas: int = 0


class Scale(Part, frozen=True, kw_only=True, rename="camel"):
    """Desired and current number of replicas."""

    metadata: Meta
    spec: _ScaleSpec = _ScaleSpec()
    status: _ScaleStatus = _ScaleStatus()


class Reference(Part, frozen=True, kw_only=True, rename="camel"):
    """Reference to another object."""

    kind: str = ""
    name: str = ""
    uid: str = ""


class _AutoscalerSpec(Part, frozen=True, kw_only=True, rename="camel"):
    scale_target_ref: Reference


class Autoscaler(Part, frozen=True, kw_only=True, rename="camel"):
    """A HorizontalPodAutoscaler: its target and bounds."""

    metadata: Meta
    spec: _AutoscalerSpec


class Event(Part, frozen=True, kw_only=True, rename="camel"):
    """An event of an object. ``type`` is Normal or Warning."""

    metadata: Meta
    involved_object: Reference
    type: str = ""
    reason: str = ""
    message: str = ""
    count: int | None = None
    last_timestamp: datetime | None = None
    event_time: datetime | None = None

    @property
    def at(self) -> datetime | None:
        """Time of the last occurrence."""
        return self.last_timestamp or self.event_time or self.metadata.creation_timestamp


class ListMeta(Part, frozen=True, kw_only=True, rename="camel"):
    """Metadata of a list, with the token for its next page."""

    continue_: str = msgspec.field(name="continue", default="")


def selector_text(selector: Selector | Mapping[str, str]) -> str:
    """Return a selector in the API's syntax.

    Raises:
        InputError: it is empty, which would select everything.
    """
    text = str(selector) if isinstance(selector, Selector) else str(Selector(match_labels=dict(selector)))
    if not text:
        raise InputError("an empty selector would select every pod of the namespace")
    return text
