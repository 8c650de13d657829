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
    started: bool | None = None
    """Whether the startup probe succeeded; None if the cluster does not report this."""
    state: ContainerState = ContainerState()
    last_state: ContainerState = ContainerState()


class Condition(Part, frozen=True, kw_only=True, rename="camel"):
    """A condition of an object. ``status`` is True, False or Unknown."""

    type: str
    status: str
    reason: str = ""
    message: str = ""


class Resources(Part, frozen=True, kw_only=True, rename="camel"):
    """Requests and limits of a container, as quantities of Kubernetes, for example ``memory: 64Mi``."""

    requests: dict[str, str] = {}
    limits: dict[str, str] = {}


class Probe(Part, frozen=True, kw_only=True, rename="camel"):
    """When a probe counts as failed. Times are in seconds."""

    initial_delay_seconds: int = 0
    period_seconds: int = 10
    failure_threshold: int = 3

    @property
    def grace(self) -> int:
        """Seconds from the start of a container until the probe has had every chance to succeed."""
        return self.initial_delay_seconds + self.period_seconds * self.failure_threshold


class Container(Part, frozen=True, kw_only=True, rename="camel"):
    """Specification of a container."""

    name: str
    image: str = ""
    resources: Resources = Resources()
    readiness_probe: Probe | None = None


class _ClaimSource(Part, frozen=True, kw_only=True, rename="camel"):
    claim_name: str = ""


class Volume(Part, frozen=True, kw_only=True, rename="camel"):
    """A volume of a pod."""

    name: str
    persistent_volume_claim: _ClaimSource | None = None


class _PodSpec(Part, frozen=True, kw_only=True, rename="camel"):
    containers: tuple[Container, ...] = ()
    init_containers: tuple[Container, ...] = ()
    volumes: tuple[Volume, ...] = ()
    node_name: str = ""

    @property
    def claims(self) -> tuple[str, ...]:
        """The PersistentVolumeClaims that the pod mounts."""
        return tuple(each.persistent_volume_claim.claim_name for each in self.volumes if each.persistent_volume_claim)


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

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Return whether labels fulfil it. Without the label, every negative requirement is fulfilled."""
        match self.operator:
            case "Exists":
                return self.key in labels
            case "DoesNotExist":
                return self.key not in labels
            case "In":
                return labels.get(self.key) in self.values
            case _:
                return labels.get(self.key) not in self.values

    def __str__(self) -> str:
        forms = {"Exists": "{key}", "DoesNotExist": "!{key}", "In": "{key} in ({values})"}
        form = forms.get(self.operator, "{key} notin ({values})")
        return form.format(key=self.key, values=",".join(self.values))


class Selector(Part, frozen=True, kw_only=True, rename="camel"):
    """Selector of a workload's pods."""

    match_labels: dict[str, str] = {}
    match_expressions: tuple[Requirement, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Return whether labels fulfil every requirement."""
        same = all(labels.get(name) == value for name, value in self.match_labels.items())
        return same and all(each.matches(labels) for each in self.match_expressions)

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


class _RollingUpdate(Part, frozen=True, kw_only=True, rename="camel"):
    partition: int | None = None


class _UpdateStrategy(Part, frozen=True, kw_only=True, rename="camel"):
    type: str = "RollingUpdate"
    rolling_update: _RollingUpdate = _RollingUpdate()


class _ClaimRetention(Part, frozen=True, kw_only=True, rename="camel"):
    when_scaled: str = "Retain"


class _ClaimTemplate(Part, frozen=True, kw_only=True, rename="camel"):
    metadata: _TemplateMeta = _TemplateMeta()


class _WorkloadSpec(Part, frozen=True, kw_only=True, rename="camel"):
    selector: Selector
    replicas: int = 1
    paused: bool = False
    template: Template = Template()
    update_strategy: _UpdateStrategy = _UpdateStrategy()
    """Of a StatefulSet or DaemonSet."""
    volume_claim_templates: tuple[_ClaimTemplate, ...] = ()
    persistent_volume_claim_retention_policy: _ClaimRetention = _ClaimRetention()


class _WorkloadStatus(Part, frozen=True, kw_only=True, rename="camel"):
    observed_generation: int = 0
    replicas: int = 0
    updated_replicas: int = 0
    available_replicas: int = 0
    desired_number_scheduled: int = 0
    """Of a DaemonSet: the nodes that should run a pod."""
    conditions: tuple[Condition, ...] = ()


class Workload(Part, frozen=True, kw_only=True, rename="camel"):
    """A Deployment, StatefulSet, DaemonSet or ReplicaSet."""

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

    @property
    def deletes_claims(self) -> bool:
        """Whether a StatefulSet deletes the volumes of the pods that a scaling removes."""
        policy = self.spec.persistent_volume_claim_retention_policy
        return bool(self.spec.volume_claim_templates) and policy.when_scaled == "Delete"

    def condition(self, type_: str) -> Condition | None:
        """Return the condition of this type."""
        return next((each for each in self.status.conditions if each.type == type_), None)


class _RevisionSpec(Part, frozen=True, kw_only=True, rename="camel"):
    template: Template = Template()


class _RevisionData(Part, frozen=True, kw_only=True, rename="camel"):
    spec: _RevisionSpec = _RevisionSpec()


class ControllerRevision(Part, frozen=True, kw_only=True, rename="camel"):
    """A recorded template of a StatefulSet or DaemonSet, without secrets."""

    metadata: Meta
    revision: int = 0
    data: _RevisionData = _RevisionData()


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
    field_path: str = ""
    """The part of the object, for example ``spec.containers{main}``."""


class _AutoscalerSpec(Part, frozen=True, kw_only=True, rename="camel"):
    scale_target_ref: Reference
    min_replicas: int = 1
    max_replicas: int = 0


class _AutoscalerStatus(Part, frozen=True, kw_only=True, rename="camel"):
    current_replicas: int = 0
    desired_replicas: int = 0


class Autoscaler(Part, frozen=True, kw_only=True, rename="camel"):
    """A HorizontalPodAutoscaler: its target, bounds and last decision."""

    metadata: Meta
    spec: _AutoscalerSpec
    status: _AutoscalerStatus = _AutoscalerStatus()


class _BudgetSpec(Part, frozen=True, kw_only=True, rename="camel"):
    selector: Selector | None = None
    min_available: int | str | None = None
    max_unavailable: int | str | None = None


class _BudgetStatus(Part, frozen=True, kw_only=True, rename="camel"):
    observed_generation: int = 0
    disruptions_allowed: int = 0
    current_healthy: int = 0
    desired_healthy: int = 0
    expected_pods: int = 0


class DisruptionBudget(Part, frozen=True, kw_only=True, rename="camel"):
    """A PodDisruptionBudget: how many pods may be removed now."""

    metadata: Meta
    spec: _BudgetSpec = _BudgetSpec()
    status: _BudgetStatus = _BudgetStatus()

    def covers(self, labels: Mapping[str, str]) -> bool:
        """Return whether it counts a pod with these labels."""
        return self.spec.selector is not None and self.spec.selector.matches(labels)

    def __str__(self) -> str:
        limits = {"minAvailable": self.spec.min_available, "maxUnavailable": self.spec.max_unavailable}
        written = ", ".join(f"{name} {value}" for name, value in limits.items() if value is not None)
        status = self.status
        return (
            f"PodDisruptionBudget {self.metadata.name} ({written}): {status.current_healthy} of "
            f"{status.expected_pods} pods are healthy, {status.desired_healthy} must be"
        )


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
