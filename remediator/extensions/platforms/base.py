"""Platforms: what a service runs on. One playbook works on all of them, because actions speak to this contract.

A sixth plural beside stores, checks, actions, guards and notifiers: without it every ``service.*`` action would know
every platform, and a new platform would mean an edit in each.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar

from remediator.errors import TargetError
from remediator.playbooks.inventory import Service


class State(StrEnum):
    """What a service's processes do, in words common to all platforms."""

    RUNNING = "running"
    STARTING = "starting"
    STOPPED = "stopped"
    EXITED = "exited"
    CRASH_LOOP = "crash_loop"
    MIXED = "mixed"
    """Some instances run, some do not."""
    UNKNOWN = "unknown"


OWN_RESTARTS = "own_restarts"
"""Part of a pin that moves by itself: how far a crash loop had come. It tells the platform's own restarts from somebody
else's, and is no part of what people approve."""


@dataclass(frozen=True, slots=True)
class ServiceStatus:
    """One look at a service."""

    state: State
    summary: str
    instances: int
    healthy: int
    pin: Mapping[str, Any]
    """What identifies this very incarnation: pid and start time, container id, observed generation."""
    started_at: datetime | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Release:
    """One state of a service's software that the platform has on record and can put back."""

    id: str
    """What ``rollback`` takes: an image's id, the name of a recorded ReplicaSet, a folder's name."""
    created_at: datetime | None
    current: bool
    facts: Mapping[str, Any] = field(default_factory=dict)
    """``same``: it would change nothing but a restart; ``redo``: going there would repeat what was undone; ``tied``:
    whether it came before or after another cannot be told."""


class Platform(ABC):
    """A kind of platform. Methods take the service, whose ``platform`` binding is of this kind.

    Every method raises the errors of :mod:`remediator.errors`: ``Unreachable`` when nothing can have happened,
    ``TimedOut`` when it is unknown, ``TargetError`` when the service is missing, ambiguous, or not what ``pin`` says.
    """

    kind: ClassVar[str]

    async def aclose(self) -> None:
        """Close its connections, if it keeps any."""

    @abstractmethod
    async def status(self, service: Service) -> ServiceStatus:
        """How it is now. Reads only."""

    @abstractmethod
    async def logs(self, service: Service, lines: int, *, previous: bool = False) -> str:
        """The last lines that it wrote; of the incarnation before this one if ``previous``."""

    @abstractmethod
    def describe_restart(self, service: Service, stop_timeout: float) -> str:
        """The exact calls of a restart, as one sentence."""

    @abstractmethod
    async def restart(self, service: Service, pin: Mapping[str, Any], stop_timeout: float) -> None:
        """Restart exactly the incarnation that ``pin`` names, or refuse."""

    def describe_scale(self, service: Service, replicas: int) -> str:
        """The exact calls of a scaling, as one sentence."""
        raise TargetError(f"{service.name} cannot be scaled on {self.kind}")

    async def scale(self, service: Service, pin: Mapping[str, Any], replicas: int) -> None:
        """Have so many instances, or refuse."""
        raise TargetError(f"{service.name} cannot be scaled on {self.kind}")

    async def releases(self, service: Service) -> tuple[Release, ...]:
        """What is on record, the newest first. Reads only."""
        raise TargetError(f"{self.kind} keeps no releases of {service.name}")

    def describe_rollback(self, service: Service, to: str) -> str:
        """The exact calls of a rollback, as one sentence."""
        raise TargetError(f"{self.kind} keeps no releases of {service.name}")

    async def rollback(self, service: Service, pin: Mapping[str, Any], to: str) -> None:
        """Put back the release with this id, or refuse."""
        raise TargetError(f"{self.kind} keeps no releases of {service.name}")
