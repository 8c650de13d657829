"""The contract of actions: what an action declares, and the methods that the pipeline calls."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, ClassVar

from remediator.core.alert import ALERTMANAGER
from remediator.core.cost import EFFECT, Cost
from remediator.core.outcome import Outcome
from remediator.core.plan import PlannedCall
from remediator.core.release import ReleaseMemory
from remediator.extensions.clientset import ClientSet
from remediator.extensions.parameters import Parameters
from remediator.playbooks.catalogue import ActionTraits, DeclaredCalls
from remediator.playbooks.facts import Fact
from remediator.playbooks.inventory import Service


@dataclass(frozen=True, slots=True)
class Poll:
    """A read-only action asks to be called again, because its condition is not met yet."""

    after: timedelta
    """Time until the next call."""
    within: timedelta
    """Deadline, from the first call. After it the step has failed."""


@dataclass(frozen=True, slots=True)
class Result:
    """The outcome of an attempt, with a summary for people and values for programs."""

    outcome: Outcome
    summary: str
    output: Mapping[str, Any] = field(default_factory=dict)
    poll: Poll | None = None
    """When to call the action again. Only an action that only reads sets it."""


class EffectStatus(StrEnum):
    """Whether an attempt with an unknown outcome took effect."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Observation:
    """Whether an attempt took effect, with the evidence."""

    happened: EffectStatus
    summary: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    unreachable: bool = False
    """Whether the target could not be reached, so the effect is unknown. A later observation may succeed."""


@dataclass(frozen=True, slots=True)
class UndoCall:
    """The call of an action that undoes another action."""

    action: str
    parameters: Mapping[str, Any]


RUN: ContextVar[str] = ContextVar("remediator_run", default="")
"""ID of the run in the current task. Actions write it into other systems as a mark."""

STEP: ContextVar[str] = ContextVar("remediator_step", default="")
"""ID of the step that is done in the current task; with ``/undo`` while it is undone. All its attempts have the same.

With the ID of the run it names an object that a step creates, so that no attempt can create a second one.
"""

RELEASES: ContextVar[ReleaseMemory] = ContextVar("remediator_releases", default=ReleaseMemory())  # noqa: B039
"""The memory of the store about the releases of the target. Set for actions with ``reads_releases``."""


INCIDENT_START: ContextVar[datetime | None] = ContextVar("remediator_incident_start", default=None)
"""Start time of the incident of the run, from the sender of the alert. None outside a run."""


ALERT_SOURCES: ContextVar[frozenset[str]] = ContextVar("remediator_alert_sources", default=frozenset({ALERTMANAGER}))
"""The sources of the alerts of the run. Set while it is planned."""


class Action(ABC):
    """Base class of actions. ``Parameters`` is the model of the ``with`` block.

    An instance holds clients and no state, because another replica may execute or observe the attempt.
    """

    name: ClassVar[str]
    Parameters: ClassVar[type[Parameters]] = Parameters
    facts: ClassVar[tuple[Fact, ...]] = ()
    """The content of `Result.output`.

    Lint checks conditions against these facts; without facts, it checks no conditions.
    """
    needs: ClassVar[tuple[str, ...]] = ()
    """Parts that the inventory entry of a service must have for its plan, such as ``redis``."""
    mutates: ClassVar[bool] = True
    idempotent: ClassVar[bool] = False
    """Whether repeating the action is safe. Only then does the pipeline repeat an attempt automatically."""
    reversible: ClassVar[bool] = False
    destructive: ClassVar[bool] = False
    """Whether the action can lose data. It then needs an approval in every mode.

    Lint warns if a step in mode auto does not say so with ``approval: required``.
    """
    interrupts: ClassVar[bool] = False
    """The action interrupts the service or its clients.

    In mode auto, such a step needs an established cause under ``for``.
    """
    measures: ClassVar[tuple[str, ...]] = ()
    """The fields of :class:`Cost` that :meth:`cost` can return. Lint checks conditions on ``cost`` against them."""
    requires_approval: ClassVar[bool] = False
    """Whether the action needs an approval in every mode."""
    reads_releases: ClassVar[bool] = False
    """The action needs the stored memory of the releases of the target."""
    timeout: ClassVar[timedelta] = timedelta(seconds=30)
    planning: ClassVar[timedelta] = timedelta(0)
    """How much longer planning may take than the time for an answer, for example to read large files."""
    observes: ClassVar[timedelta] = timedelta(0)
    """How long it watches a target on purpose, which a diagnosis allows on top of the time for an answer."""

    def __init__(self, clients: ClientSet) -> None:
        """Keep the clients of the service."""
        self.clients = clients

    @classmethod
    def declared_calls(cls, clients: ClientSet) -> DeclaredCalls | None:
        """Return the declared calls of the settings, for an action that calls a command or request by name.

        Default: None.
        """
        return None

    @classmethod
    def declared_traits(cls) -> ActionTraits:
        """Return the traits that the class declares."""
        return ActionTraits(
            mutates=cls.mutates,
            idempotent=cls.idempotent,
            reversible=cls.reversible,
            destructive=cls.destructive,
            summary=(cls.__doc__ or "").strip().partition("\n")[0],
            requires_approval=cls.requires_approval,
            interrupts=cls.interrupts,
            measures=cls.measures,
            facts=cls.facts,
            timeout=cls.timeout,
        )

    def traits_for(self, parameters: Any) -> ActionTraits:
        """Return the traits of one call. Default: the traits of the class.

        An action that calls a command or request of the settings returns their declared traits. An undeclared call
        counts as mutating, interrupting and destructive.
        """
        return self.declared_traits()

    @abstractmethod
    async def plan(self, service: Service, parameters: Any) -> PlannedCall:
        """Resolve the parameters to exact calls. Changes nothing.

        Raises:
            TargetError: the target is missing, ambiguous or in the wrong state.
            ClientError: the platform does not answer.
        """

    async def cost(self, service: Service, parameters: Any, call: PlannedCall) -> Cost:
        """Measure the current cost of this call. Changes nothing.

        The pipeline calls this method when it plans, and again right before it acts. Put unmeasurable values into
        ``Cost.unknown``; an error counts as unknown too. If the cost is unknown or above the tolerance, a person is
        asked in every mode. Default: no cost for an action that neither interrupts nor destroys anything, otherwise
        unknown.
        """
        traits = self.traits_for(parameters)
        if traits.interrupts or traits.destructive:
            return Cost(unknown={EFFECT: f"{self.name} does not measure its cost"})
        return Cost()

    @abstractmethod
    async def execute(self, service: Service, parameters: Any, call: PlannedCall) -> Result:
        """Make the planned calls once. The caller sets the timeout.

        The caller treats ``Unreachable``, ``TargetError`` and ``Refused`` as *failed*, and ``TimedOut``, ``BadAnswer``
        and a cancellation as *unknown*.
        """

    def undo_call(self, call: PlannedCall, output: Mapping[str, Any]) -> UndoCall | None:
        """Return the call that undoes this call; None if it cannot be undone.

        Args:
            call: the call that was made.
            output: output of its result; empty if the result is unknown.
        """
        return None

    async def observe(self, service: Service, parameters: Any, call: PlannedCall, since: datetime) -> Observation:
        """Return whether an attempt that began at ``since`` took effect. Changes nothing. Default: unknown."""
        return Observation(EffectStatus.UNKNOWN, f"{self.name} leaves no trace to check")

    async def missing_rights(self, service: Service) -> tuple[str, ...]:
        """Return the rights that this action lacks on a server of the service, as text. Changes nothing.

        :class:`Platform` returns the rights on the platform. Default: no known missing rights.

        Raises:
            ClientError: the server does not report rights.
        """
        return ()
