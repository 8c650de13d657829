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

from remediator.inventory import Service


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


class Platform(ABC):
    """A kind of platform. Methods take the service, whose ``platform`` binding is of this kind.

    Every method raises the errors of :mod:`remediator.errors`: ``Unreachable`` when nothing can have happened,
    ``TimedOut`` when it is unknown, ``TargetError`` when the service is missing, ambiguous, or not what ``pin`` says.
    """

    kind: ClassVar[str]

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
