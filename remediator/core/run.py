"""Episodes and runs: what they are, and the one table of transitions that everything shares.

The engine, the diagram in docs/, the metrics and the tests read :data:`TRANSITIONS`; there is no second list.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from remediator.errors import RemediatorError

ENGINE_VERSION = 1
"""Written into every run. A process refuses, visibly, to touch a run of a version that it does not know."""


class Status(StrEnum):
    """Where a run stands."""

    MATCHED = "matched"
    PLANNED = "planned"
    BLOCKED = "blocked"
    AWAITING_APPROVAL = "awaiting_approval"
    RUNNING = "running"
    UNKNOWN_OUTCOME = "unknown_outcome"
    VERIFYING = "verifying"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    ESCALATED = "escalated"
    CANCELLED = "cancelled"

    @classmethod
    def _missing_(cls, value: object) -> Status:
        """A word of a newer version: kept as it is and shown to people; no verb moves such a run."""
        foreign = str.__new__(cls, value)
        foreign._name_, foreign._value_ = "FOREIGN", str(value)
        return foreign


_S = Status

TRANSITIONS: Mapping[Status, frozenset[Status]] = {
    # a run exists as soon as a playbook matched; planning talks to platforms, so it is a state of its own
    _S.MATCHED: frozenset({_S.PLANNED, _S.BLOCKED, _S.ESCALATED, _S.CANCELLED}),
    _S.PLANNED: frozenset({_S.BLOCKED, _S.AWAITING_APPROVAL, _S.RUNNING, _S.ESCALATED, _S.CANCELLED}),
    # a blocked run is asked again when its verdict says so, and planned afresh, since the world has moved
    _S.BLOCKED: frozenset({_S.MATCHED, _S.RUNNING, _S.VERIFYING, _S.ESCALATED, _S.CANCELLED}),
    _S.AWAITING_APPROVAL: frozenset({_S.RUNNING, _S.MATCHED, _S.BLOCKED, _S.ESCALATED, _S.CANCELLED}),
    _S.RUNNING: frozenset(
        {_S.VERIFYING, _S.UNKNOWN_OUTCOME, _S.BLOCKED, _S.AWAITING_APPROVAL, _S.FAILED, _S.ESCALATED, _S.CANCELLED}
    ),
    _S.UNKNOWN_OUTCOME: frozenset({_S.RUNNING, _S.VERIFYING, _S.ESCALATED, _S.CANCELLED}),
    _S.VERIFYING: frozenset({_S.SUCCEEDED, _S.RUNNING, _S.FAILED, _S.ESCALATED, _S.CANCELLED}),
    _S.SUCCEEDED: frozenset(),
    _S.FAILED: frozenset(),
    _S.ESCALATED: frozenset(),
    _S.CANCELLED: frozenset(),
}

TERMINAL = frozenset(status for status, following in TRANSITIONS.items() if not following)
OPEN = frozenset(TRANSITIONS) - TERMINAL


class IllegalTransition(RemediatorError):
    """A change of state that the table does not have: a defect, never input."""


def check_transition(before: Status, after: Status) -> None:
    """Refuse what :data:`TRANSITIONS` does not list; staying in place is not a transition either."""
    if after not in TRANSITIONS.get(before, frozenset()):
        raise IllegalTransition(f"a run cannot go from {before} to {after}")


class EpisodeStatus(StrEnum):
    """Where an episode stands: ``resolved`` lasts for the quiet time, in which a new firing continues it."""

    FIRING = "firing"
    RESOLVED = "resolved"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class LastUpdate:
    """What was last said about an alert."""

    status: EpisodeStatus
    last_seen_at: datetime
    annotations: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Episode:
    """One stretch of one alert firing, from first firing to resolved plus quiet time."""

    id: str
    identity: str
    status: EpisodeStatus
    alertname: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    started_at: datetime
    """When we first saw it fire; ``starts_at`` is what Alertmanager says and may change between notifications."""
    starts_at: datetime
    last_seen_at: datetime
    resolved_at: datetime | None
    closes_at: datetime | None
    flaps: int
    """How often it fired again within the quiet time."""


@dataclass(frozen=True, slots=True)
class Run:
    """One execution of one plan for one playbook and target, as the store holds it."""

    id: str
    status: Status
    reason: str | None
    """Why it is in this status: a word from a closed list (a guard's reason, ``resolved``, ``rejected``…)."""
    detail: Mapping[str, Any]
    """The typed inputs behind the reason, as shown to people."""
    playbook: str
    playbook_hash: str
    target: str
    mode: str
    plan: Mapping[str, Any] | None
    plan_hash: str | None
    cursor: str | None
    """Id of the step that is to be done next, being done, or was done last (when verifying)."""
    resume_to: Status | None
    """For a blocked run: where it goes on once it may."""
    engine_version: int
    fence: int
    wakeup_count: int
    """Counts the events meant for it (resolved, decided, cancelled), so that none is slept through."""
    cancel_request: Mapping[str, Any] | None
    lease_owner: str | None
    lease_until: datetime | None
    wake_at: datetime | None
    deadline_at: datetime | None
    incident_open: bool
    holds_target: bool
    created_at: datetime
    updated_at: datetime
    first_action_at: datetime | None
    finished_at: datetime | None

    @property
    def due_by(self) -> datetime | None:
        """When it is out of time. A run that is held before its first action has all the time there is."""
        held_back = self.status is Status.BLOCKED and self.first_action_at is None
        return None if held_back or self.status in TERMINAL else self.deadline_at


@dataclass(frozen=True, slots=True)
class Claim:
    """A process's right to work on a run: valid while the fence is the run's and the lease lasts."""

    run_id: str
    owner: str
    fence: int
    until: datetime
