"""Backtests: replay past alerts through the production pipeline, on a virtual clock.

Matching, planning, approvals, steps, verification, and the guards that depend on time and past runs are the production
code. :data:`ASSUMPTIONS` lists the data that a history does not contain. Every result names them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from remediator.core.alert import ALERTMANAGER

ASSUMPTIONS = (
    "approvers approve two minutes after the request",
    "checks fail until the first change of the run, and are ok after it; dependencies are healthy",
    "diagnoses succeed without facts, so conditions on facts do not hold",
    "guards that read the environment or stops always allow; only guards on time and past runs are evaluated",
    "playbooks run in the mode of their files",
)
"""Data that a history does not contain."""


@dataclass(frozen=True, slots=True)
class Event:
    """A notification, and when it was received."""

    at: datetime
    body: bytes
    source: str = ALERTMANAGER
    """Name of the source in the settings."""


@dataclass(frozen=True, slots=True)
class History:
    """The notifications of a period, in order."""

    start: datetime
    end: datetime
    events: tuple[Event, ...]
    source: str


class Prediction(StrEnum):
    """The predicted actions of a run."""

    ACTS = "would act"
    ASKS = "would only ask"
    BLOCKED = "would be blocked"
    DOES_NOTHING = "would do nothing"


@dataclass(frozen=True, slots=True)
class ReplayedRun:
    """A run of a backtest."""

    at: datetime
    playbook: str
    target: str
    actions: tuple[str, ...]
    approval_requests: int
    blocked_by: frozenset[str]
    """The guards that blocked it, at least for some time."""

    @property
    def prediction(self) -> Prediction:
        """The predicted action of the run. The history does not show its result."""
        if self.actions:
            return Prediction.ACTS
        if self.approval_requests:
            return Prediction.ASKS
        return Prediction.BLOCKED if self.blocked_by else Prediction.DOES_NOTHING


@dataclass(frozen=True, slots=True)
class BacktestResult:
    """The predicted results of a set of playbooks for a history."""

    history: History
    runs: tuple[ReplayedRun, ...]
    episodes: int
    unmatched: Mapping[str, int] = field(default_factory=dict)
    """Number of episodes that no playbook matches, by alert name."""
