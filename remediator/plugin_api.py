"""The supported API for plugins. ``__all__`` lists the supported names; every other module can change at any time."""

from __future__ import annotations

from remediator.core.cost import Cost
from remediator.core.outcome import Outcome
from remediator.core.plan import PlannedCall
from remediator.core.release import Release, ReleaseChange
from remediator.errors import (
    BadAnswer,
    ClientError,
    ConfigurationError,
    InputError,
    Refused,
    TargetError,
    TimedOut,
    Unreachable,
)
from remediator.extensions.actions.base import (
    INCIDENT_START,
    RUN,
    Action,
    EffectStatus,
    Observation,
    Poll,
    Result,
    UndoCall,
)
from remediator.extensions.checks.base import Check, CheckAnswer, Evidence
from remediator.extensions.clientset import ClientSet
from remediator.extensions.guards.base import (
    ALLOW,
    Guard,
    GuardAnswer,
    GuardInput,
    Phase,
    RunSummary,
    Settings,
    TargetView,
    Verdict,
)
from remediator.extensions.notifiers.base import (
    Ask,
    Delivery,
    Message,
    Notifier,
    PermanentFailure,
    PressedButton,
    RetryAfter,
    Section,
    Tone,
)
from remediator.extensions.parameters import Parameters
from remediator.extensions.platforms.base import Platform, ServiceStatus, State
from remediator.extensions.witnesses.base import Witness, WitnessConflict, WitnessError, WitnessFactory
from remediator.playbooks.facts import Fact
from remediator.playbooks.inventory import Inventory, Service

__all__ = [
    "ALLOW",
    "INCIDENT_START",
    "RUN",
    "Action",
    "Ask",
    "BadAnswer",
    "Check",
    "CheckAnswer",
    "ClientError",
    "ClientSet",
    "ConfigurationError",
    "Cost",
    "Delivery",
    "EffectStatus",
    "Evidence",
    "Fact",
    "Guard",
    "GuardAnswer",
    "GuardInput",
    "InputError",
    "Inventory",
    "Message",
    "Notifier",
    "Observation",
    "Outcome",
    "Parameters",
    "PermanentFailure",
    "Phase",
    "PlannedCall",
    "Platform",
    "Poll",
    "PressedButton",
    "Refused",
    "Release",
    "ReleaseChange",
    "Result",
    "RetryAfter",
    "RunSummary",
    "Section",
    "Service",
    "ServiceStatus",
    "Settings",
    "State",
    "TargetError",
    "TargetView",
    "TimedOut",
    "Tone",
    "UndoCall",
    "Unreachable",
    "Verdict",
    "Witness",
    "WitnessConflict",
    "WitnessError",
    "WitnessFactory",
]
