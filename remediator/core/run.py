"""Episodes and runs: their data, and the single table of transitions.

The pipeline, the diagram in docs/reliability.md, the metrics and the tests read :data:`TRANSITIONS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

import msgspec

from remediator.core import run_detail
from remediator.core.alert import ALERTMANAGER
from remediator.core.plan import Plan
from remediator.core.reason import OpenEnum
from remediator.core.reason import Reason as Reason
from remediator.core.run_detail import Detail
from remediator.errors import RemediatorError

ENGINE_VERSION = 1
"""Written into every run. A process refuses, visibly, to touch a run of a version that it does not know."""


class Status(OpenEnum):
    """The status of a run."""

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


_S = Status

TRANSITIONS: Mapping[Status, frozenset[Status]] = {
    # a run exists as soon as a playbook matched; planning asks platforms, so it needs a separate status
    _S.MATCHED: frozenset({_S.PLANNED, _S.BLOCKED, _S.ESCALATED, _S.CANCELLED}),
    _S.PLANNED: frozenset({_S.BLOCKED, _S.AWAITING_APPROVAL, _S.RUNNING, _S.ESCALATED, _S.CANCELLED}),
    # a blocked run is evaluated again when its verdict says so, and planned again, because the target may have changed
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
    """A change of status that :data:`TRANSITIONS` does not have: a defect, never input."""


def check_transition(before: Status, after: Status) -> None:
    """Refuse a transition that :data:`TRANSITIONS` does not list. Staying in a status is not a transition.

    Raises:
        IllegalTransition: it is not listed.
    """
    if after not in TRANSITIONS.get(before, frozenset()):
        raise IllegalTransition(f"a run cannot go from {before} to {after}")


_DETAILS: Mapping[Status, type[Detail]] = {
    _S.MATCHED: run_detail.MatchedDetail,
    _S.PLANNED: run_detail.PlannedDetail,
    _S.BLOCKED: run_detail.BlockedDetail,
    _S.AWAITING_APPROVAL: run_detail.AwaitingApprovalDetail,
    _S.RUNNING: run_detail.RunningDetail,
    _S.UNKNOWN_OUTCOME: run_detail.UnknownOutcomeDetail,
    _S.VERIFYING: run_detail.VerifyingDetail,
    _S.SUCCEEDED: run_detail.SucceededDetail,
    _S.FAILED: run_detail.FailedDetail,
    _S.ESCALATED: run_detail.EscalatedDetail,
    _S.CANCELLED: run_detail.CancelledDetail,
}


def decode_detail(status: Status, data: Mapping[str, Any]) -> Detail:
    """Return stored data as the detail of a status; a plain :class:`Detail` for data of a newer version."""
    try:
        return msgspec.convert(data, _DETAILS.get(status, Detail))
    except msgspec.ValidationError:
        return Detail(text=str(data.get("text", "")))


class EpisodeStatus(StrEnum):
    """The status of an episode. While it is ``resolved``, a new firing continues it."""

    FIRING = "firing"
    RESOLVED = "resolved"
    CLOSED = "closed"


class EpisodeKind(StrEnum):
    """The subject of an episode."""

    ALERT = "alert"
    MANUAL = "manual"
    """A person started the run. The episode lasts as long as the run; no alert belongs to it."""


@dataclass(frozen=True, slots=True)
class LastUpdate:
    """The last received update of an alert."""

    status: EpisodeStatus
    last_seen_at: datetime
    annotations: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Episode:
    """One stretch of one alert: from its first firing until it was resolved for ``timing.resolve_grace``.

    An episode of kind *manual* begins when a person starts a run; its labels are the parameters that were given.
    """

    id: str
    identity: str
    status: EpisodeStatus
    alertname: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    started_at: datetime
    """When this installation first received the alert as firing.

    ``starts_at`` comes from Alertmanager and may change.
    """
    starts_at: datetime
    last_seen_at: datetime
    resolved_at: datetime | None
    closes_at: datetime | None
    flaps: int
    """How often it fired again while it was resolved."""
    kind: EpisodeKind = EpisodeKind.ALERT
    generator_url: str = ""
    """Link to the expression in Prometheus, from the alert; empty if the alert has no link."""
    source: str = ALERTMANAGER
    """Name of the source in the settings: only this source can say whether the alert still fires."""


@dataclass(frozen=True, slots=True)
class Run:
    """One execution of one plan for one playbook and target, as the store has it."""

    id: str
    incident_id: str
    """ID of the incident; runs whose alerts belong together have the same incident."""
    status: Status
    reason: Reason | None
    """Why the run is in this status."""
    detail: Detail
    """The inputs behind the reason, of the status's type (:mod:`remediator.core.run_detail`)."""
    blocked_by: str | None
    """The guard that blocks the run; None if no guard does."""
    blocked_by_run: str | None
    """The run whose end may unblock this run, if the guard names such a run."""
    playbook: str
    playbook_hash: str
    target: str
    mode: str
    plan: Plan | None
    plan_hash: str | None
    cursor: str | None
    """ID of the step to do next, being done, or done last (while verifying)."""
    resume_to: Status | None
    """For a blocked run: the status in which it continues."""
    engine_version: int
    fence: int
    wakeup_count: int
    """Number of events for the run (resolved, decided, cancelled), so that none is missed."""
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
    def relapsed(self) -> bool:
        """Return whether the run succeeded and did not last."""
        return isinstance(self.detail, run_detail.SucceededDetail) and self.detail.ineffective

    @property
    def due_by(self) -> datetime | None:
        """Return when the run is out of time. A run that is blocked before its first action has no limit."""
        held_back = self.status is Status.BLOCKED and self.first_action_at is None
        return None if held_back or self.status in TERMINAL else self.deadline_at

    @property
    def escalate_to(self) -> tuple[str, ...]:
        """Return the channels that the plan escalates to; empty without a plan."""
        return () if self.plan is None else self.plan.escalate_to
