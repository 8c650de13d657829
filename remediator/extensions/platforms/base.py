"""The contract of platforms, which run services.

The ``service.*`` actions use only this contract, so that one playbook works on every platform.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar, final

from remediator.clients.kubernetes.events import ObjectEvent
from remediator.clients.ssh.client import PastCall
from remediator.core.plan import PlannedCall
from remediator.core.release import Release
from remediator.errors import TargetError
from remediator.playbooks.inventory import Service


class State(StrEnum):
    """The state of a service, in terms common to all platforms."""

    RUNNING = "running"
    STARTING = "starting"
    STOPPED = "stopped"
    """An operator or a deployment stopped the service, according to the platform, or never started it."""
    EXITED = "exited"
    """The process ended without a request to stop."""
    CRASH_LOOP = "crash_loop"
    MIXED = "mixed"
    """Only some instances run."""
    UNKNOWN = "unknown"


class Reason(StrEnum):
    """Reasons why instances do not serve, reported by the platform, in terms common to all platforms."""

    OUT_OF_MEMORY = "out_of_memory"
    """The kernel killed an instance that reached its memory limit."""
    IMAGE_NOT_PULLED = "image_not_pulled"
    """The image of the release cannot be had: wrong name or tag, no credentials, or no connection to the registry."""
    NOT_SCHEDULED = "not_scheduled"
    """No node has room for an instance, or no node fits its conditions."""
    PAUSED = "paused"
    """A person paused the rollout."""
    CONFIGURATION_MISSING = "configuration_missing"
    """A ConfigMap, a Secret or one of their keys does not exist, so a container is not created."""
    VOLUME_NOT_MOUNTED = "volume_not_mounted"
    """A volume of an instance cannot be attached or mounted."""
    NOT_CREATED = "not_created"
    """The platform does not create instances: a quota, an admission policy or a missing account."""
    CANNOT_START = "cannot_start"
    """The runtime cannot start a container: its command, working directory or a mount is wrong."""
    INIT_FAILED = "init_failed"
    """An init container does not end well, so that the containers of the service never start."""
    LIVENESS_FAILED = "liveness_failed"
    """The platform restarts a container, because its liveness or startup probe fails."""
    READINESS_FAILED = "readiness_failed"
    """A container runs, and its readiness probe fails."""
    CRASHED = "crashed"
    """A container ended with an error; see its exit code and its logs."""


OWN_RESTARTS = "own_restarts"
"""Part of a pin: the progress of a crash loop, which changes with each restart by the platform.

It separates restarts by the platform from other restarts. An approval does not cover it, so an approval stays valid
during a crash loop.
"""


@dataclass(frozen=True, slots=True)
class ServiceStatus:
    """The state of a service at one time."""

    state: State
    summary: str
    instances: int
    healthy: int
    pin: Mapping[str, Any]
    """Identity of the current instance, for example PID and start time, container ID or observed generation."""
    started_at: datetime | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    lives: Mapping[str, str] = field(default_factory=dict)
    """Each instance, with a value that changes whenever the instance starts again: its PID or its restart count."""
    reasons: tuple[Reason, ...] = ()
    """Reasons why instances do not serve, if the platform reports them."""
    crashes: int = 0
    """Number of unexpected ends in the two minutes before the last start; 0 if the platform does not report it."""
    scaled_by: str = ""
    """Why only another program may set the number of its instances; empty if an operator may."""
    hold: str = ""
    """Why its release must not be changed now, for example because a person paused its rollout; empty if it may be."""


SERVES = "serves"
"""Part of the pin of an instance: whether it served when the plan was made. A flapping instance changes it."""


class Removal(StrEnum):
    """How an instance is removed, so that its controller replaces it."""

    DELETE = "delete"
    EVICT = "evict"


@dataclass(frozen=True, slots=True)
class Instance:
    """One instance of a service that can be removed."""

    name: str
    ready: bool
    pin: Mapping[str, Any]
    """Identity of the instance: another instance with the same name has another identity."""
    text: str
    """The exact calls of its removal in one sentence."""
    risk: str


_OPTIONAL = {
    "service.scale": "scale",
    "service.releases": "releases",
    "service.rollback": "rollback",
    "pod.delete": "remove",
    "pod.evict": "remove",
}
"""The actions that a platform may lack, with the method that each action calls."""


class Platform(ABC):
    """Base class of platforms. Methods take a service whose ``platform`` binding is of this kind.

    Every method raises the errors of :mod:`remediator.errors`: ``Unreachable`` if nothing was changed, and ``TimedOut``
    if the outcome is unknown. ``TargetError`` means that the service is missing, ambiguous or differs from ``pin``.
    """

    kind: ClassVar[str]
    needs: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    """The parts of the inventory entry of a service, apart from its binding, that an action needs here, by action."""

    @classmethod
    def unsupported(cls) -> frozenset[str]:
        """Return the actions that this platform refuses, because it does not override their method."""
        return frozenset(action for action, name in _OPTIONAL.items() if getattr(cls, name) is getattr(Platform, name))

    @classmethod
    def unsupported_on(cls, service: Service) -> frozenset[str]:
        """Return the actions that this platform refuses for a service, according to its binding."""
        return cls.unsupported()

    async def aclose(self) -> None:
        """Close all connections."""

    async def missing_rights(self, service: Service, action: str) -> tuple[str, ...]:
        """Return the rights that the remediator lacks for an action, as text. Changes nothing.

        If the rights are unknown, the result is empty.
        """
        return ()

    @final
    async def require_rights(self, service: Service, action: str) -> None:
        """Refuse to plan an action that would fail for lack of rights, before a person is asked to approve it.

        Raises:
            TargetError: a right is missing.
        """
        if missing := await self.missing_rights(service, action):
            raise TargetError(
                f"{action} on {service.name}: the remediator has no right to {', '.join(missing)}; grant it"
            )

    async def write_event(self, service: Service, call: PlannedCall, event: ObjectEvent) -> None:
        """Write an event on the object that a call acts on, where users of the platform look. Default: nothing."""

    @abstractmethod
    async def status(self, service: Service) -> ServiceStatus:
        """Return the current state. Changes nothing."""

    @abstractmethod
    async def logs(self, service: Service, lines: int, *, previous: bool = False) -> str:
        """Return the last log lines of the current instance; with ``previous``, those of the previous one.

        Each line begins with its time (RFC 3339) if the platform knows it.
        """

    @abstractmethod
    def describe_restart(self, service: Service, stop_timeout: float) -> str:
        """Return the exact calls of a restart in one sentence."""

    @abstractmethod
    async def restart(self, service: Service, pin: Mapping[str, Any], stop_timeout: float) -> None:
        """Restart the instance that ``pin`` identifies; refuse if another instance runs."""

    async def settle(self, service: Service) -> tuple[PastCall, ...] | None:
        """Return the calls of the current attempt that the service's host has begun, and prevent further calls.

        None, the default, for a platform that records no calls: only the state of the service shows the outcome.
        """
        return None

    def describe_scale(self, service: Service, replicas: int) -> str:
        """Return the exact calls of a scaling in one sentence."""
        raise TargetError(f"cannot scale {service.name}: the platform {self.kind} does not support it")

    async def scale(self, service: Service, pin: Mapping[str, Any], replicas: int) -> None:
        """Set the number of instances; refuse if the service differs from ``pin``."""
        raise TargetError(f"cannot scale {service.name}: the platform {self.kind} does not support it")

    async def releases(self, service: Service) -> tuple[Release, ...]:
        """Return the recorded releases, the newest first. Changes nothing."""
        raise TargetError(f"{service.name} has no releases: the platform {self.kind} does not record them")

    def describe_rollback(self, service: Service, to: str) -> str:
        """Return the exact calls of a rollback in one sentence."""
        raise TargetError(f"{service.name} has no releases: the platform {self.kind} does not record them")

    async def rollback(self, service: Service, pin: Mapping[str, Any], to: str) -> None:
        """Restore the release with this ID; refuse if the service differs from ``pin``."""
        raise TargetError(f"{service.name} has no releases: the platform {self.kind} does not record them")

    async def instance(self, service: Service, name: str | None, removal: Removal) -> Instance:
        """Return the instance to remove. Changes nothing.

        Args:
            service: the service.
            name: name of the instance; None for the only instance that does not serve.
            removal: the kind of removal.

        Raises:
            TargetError: it is not an instance of the service, several do not serve, or its removal would be refused.
        """
        raise TargetError(f"cannot {removal} an instance of {service.name}: it does not run on Kubernetes")

    async def remove(self, service: Service, pin: Mapping[str, Any], removal: Removal) -> None:
        """Remove the instance that ``pin`` identifies; refuse another instance."""
        raise TargetError(f"cannot {removal} an instance of {service.name}: it does not run on Kubernetes")

    async def is_removed(self, service: Service, pin: Mapping[str, Any]) -> bool:
        """Return whether the instance that ``pin`` identifies is gone, or ends now."""
        raise TargetError(f"{service.name} does not run on Kubernetes")
