"""Actions: verbs on a target. Each declares what it is, so that the engine knows what it may do with it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, ClassVar

from remediator.core.outcome import Outcome
from remediator.core.plan import PlannedCall
from remediator.extensions.clientset import ClientSet
from remediator.extensions.parameters import Parameters
from remediator.playbooks.inventory import Service


@dataclass(frozen=True, slots=True)
class Result:
    """The outcome of an attempt, in one sentence and as values."""

    outcome: Outcome
    summary: str
    output: Mapping[str, Any] = field(default_factory=dict)


class EffectStatus(StrEnum):
    """What observing a target says about an attempt of unknown outcome."""

    YES = "yes"
    NO = "no"
    CANNOT_TELL = "cannot_tell"


@dataclass(frozen=True, slots=True)
class Observation:
    """Whether an attempt took effect, and by what sign."""

    happened: EffectStatus
    summary: str
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class UndoCall:
    """The call of an action that puts back what another one did."""

    action: str
    parameters: Mapping[str, Any]


RUN: ContextVar[str] = ContextVar("remediator_run", default="")
"""The run that is being advanced in this task, for marks that actions leave in other systems."""


class Action(ABC):
    """One kind of action. ``Parameters`` is the model of its ``with`` block.

    Instances hold clients, never state: any replica may plan, execute or observe the same attempt.
    """

    name: ClassVar[str]
    Parameters: ClassVar[type[Parameters]] = Parameters
    mutates: ClassVar[bool] = True
    idempotent: ClassVar[bool] = False
    """Doing it twice is the same as once; only then may the engine repeat an attempt by itself."""
    reversible: ClassVar[bool] = False
    destructive: ClassVar[bool] = False
    """It may lose data; lint warns when it can run without a person."""
    requires_approval: ClassVar[bool] = False
    """A person agrees to it first, whatever the playbook and its mode say."""
    timeout: ClassVar[timedelta] = timedelta(seconds=30)

    def __init__(self, world: ClientSet) -> None:
        """Keep the clients that it needs, never state."""

    @abstractmethod
    async def plan(self, service: Service, parameters: Any) -> PlannedCall:
        """Resolve to exact calls. Reads only.

        Raises:
            TargetError: missing or ambiguous.
            ClientError: the platform cannot be asked.
        """

    @abstractmethod
    async def execute(self, service: Service, parameters: Any, call: PlannedCall) -> Result:
        """Do it, once. The caller bounds it in time and takes ``Unreachable``, ``TargetError`` and ``Refused`` as
        failed, ``TimedOut``, ``BadAnswer`` and cancellation as unknown."""

    def back(self, call: PlannedCall, output: Mapping[str, Any]) -> UndoCall | None:
        """How what ``call`` did is put back, from what it recorded; None if it cannot be.

        Args:
            call: as it was made.
            output: of its result; empty if it is not known.
        """
        return None

    async def observe(self, service: Service, parameters: Any, call: PlannedCall, since: datetime) -> Observation:
        """Whether an attempt that began at ``since`` took effect. Reads only; the default cannot tell."""
        return Observation(EffectStatus.CANNOT_TELL, f"{self.name} leaves no sign that could be looked for")
