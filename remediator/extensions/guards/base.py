"""The guard contract. A guard can block an action.

All guards are on by default. The pipeline evaluates them when it makes a plan and again right before every action.
A verdict has an answer, a typed reason and the inputs that led to it. *Unknown* never counts as permission.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, ClassVar, Protocol

from pydantic import BaseModel, ConfigDict
from sqlalchemy import Connection

from remediator.core.ids import Ids
from remediator.core.plan import PlannedStep
from remediator.core.run import Episode, EpisodeKind, Run
from remediator.extensions.checks.base import Evidence
from remediator.extensions.clientset import ClientSet
from remediator.extensions.platforms.base import ServiceStatus
from remediator.playbooks.inventory import Inventory, Service
from remediator.playbooks.model import Playbook
from remediator.storage import Tx


class GuardAnswer(StrEnum):
    """The answer of a guard."""

    ALLOW = "allow"
    BLOCK = "block"
    UNKNOWN = "unknown"


_ANSWER_TEXT = {GuardAnswer.ALLOW: "allowed", GuardAnswer.BLOCK: "blocked", GuardAnswer.UNKNOWN: "unknown"}


class Phase(StrEnum):
    """When a guard is evaluated."""

    PLAN = "plan"
    ACT = "act"
    VERIFY = "verify"
    """During the verification of a step. Only :meth:`Guard.check_regression` is called."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer of a guard, with its reason and its inputs."""

    answer: GuardAnswer
    reason: str = ""
    """One of the guard's ``reasons``. The same value is in logs, metrics, the audit log, chat messages and pages."""
    text: str = ""
    """The explanation with its values, without the answer."""
    inputs: Mapping[str, Any] = field(default_factory=dict)
    """The data that led to the answer, as JSON values."""
    until: datetime | None = None
    """When to evaluate again. None: when something changes, or after the default interval."""

    @property
    def sentence(self) -> str:
        """The answer and its text.

        Example: ``blocked: rate_limit 3/1h for redis used by runs a, b, c; possible again at 03:41:00Z``.
        """
        return f"{_ANSWER_TEXT[self.answer]}: {self.text}" if self.text else _ANSWER_TEXT[self.answer]


ALLOW = Verdict(GuardAnswer.ALLOW)


class Settings(BaseModel):
    """Base class of a guard's settings in a playbook."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True, populate_by_name=True)

    def off(self) -> str:
        """Return how these settings disable the guard in whole or in part; empty if they do not."""
        return ""


class TargetView(Protocol):
    """Read access to the target. Its results are shared by all guards of one evaluation."""

    async def status(self) -> ServiceStatus:
        """Return the status from the platform. Raises the errors of the platform."""
        ...

    async def check(self, name: str, parameters: Mapping[str, Any]) -> Evidence:
        """Run one check on the target, limited in time. Return *unknown* with the reason for every error."""
        ...


@dataclass(frozen=True, slots=True)
class GuardInput:
    """The input of one evaluation."""

    phase: Phase
    now: datetime
    run: Run
    playbook: Playbook
    service: Service
    inventory: Inventory
    episodes: Sequence[Episode]
    settings: Any
    """The guard's settings for this playbook: an instance of its ``Settings``."""
    view: TargetView
    step: PlannedStep | None = None
    """The next step. None when the guards evaluate the whole plan."""
    causes: Sequence[str] = ()
    """IDs of the typed causes that the newest diagnosis of the run points to."""


@dataclass(frozen=True, slots=True)
class RunSummary:
    """A finished run, for :meth:`Guard.on_run_finished`."""

    run: Run
    playbook: Playbook
    written_mode: str
    """The mode in the playbook's file for this environment."""
    settings: Any
    """The guard's settings for this playbook."""
    ids: Ids
    actor: str


class Guard:
    """Base class of a guard. Implement ``evaluate_stored``, ``evaluate_live``, or both.

    ``evaluate_stored`` reads only the store. It runs in the transaction that commits the intent of an action, so that
    two replicas cannot both use the last free slot. ``evaluate_live`` runs before that transaction and may call other
    systems.
    """

    name: ClassVar[str]
    reasons: ClassVar[frozenset[str]]
    """All reasons that this guard can give."""
    Settings: ClassVar[type[Settings]] = Settings
    same_for_all_steps: ClassVar[bool] = False
    """Whether ``evaluate_stored`` has the same answer for the plan and for each of its steps. Its answer about the plan
    then holds for the step that follows at once, as long as nothing in the store has changed."""
    waits_for_runs: ClassVar[bool] = False
    """Whether the end of another run can unblock a run. Blocked runs are then evaluated again when a run ends."""

    applies_to_undo: ClassVar[bool] = False
    """Whether the guard is also evaluated before an undo that a person requests."""
    expected_reasons: ClassVar[frozenset[str]] = frozenset()
    """Reasons to block that people set themselves, such as a silence. A run that they block notifies no person."""
    passing_reasons: ClassVar[frozenset[str]] = frozenset()
    """Reasons to block that usually end within two minutes. Before that, no person is notified, even for a critical
    alert.
    """

    def __init__(self, clients: ClientSet) -> None:
        """Keep the clients of the service. Do not keep state in a guard: it belongs in the store."""
        self.clients = clients

    def lookback(self, settings: Any) -> timedelta:
        """Return how far back ``evaluate_stored`` reads runs. Younger runs are not pruned."""
        return timedelta(0)

    async def evaluate_live(self, guard_input: GuardInput) -> Verdict:
        """Evaluate with calls to other systems. An exception counts as *unknown*."""
        return ALLOW

    def evaluate_stored(self, connection: Connection, guard_input: GuardInput) -> Verdict:
        """Evaluate from the store alone."""
        return ALLOW

    async def check_regression(self, guard_input: GuardInput, before: Mapping[str, Any]) -> Verdict:
        """Check after a step whether the step made things worse. *Block* ends the run; *unknown* does not.

        Args:
            guard_input: with the step that was executed.
            before: the inputs of this guard's first verdict before a step of this run.
        """
        return ALLOW

    def on_run_finished(self, tx: Tx, summary: RunSummary) -> None:
        """Record what later evaluations need, and enqueue notifications, after a run that acted has finished.

        Runs in the transaction that ends the run.
        """


def manual_start(guard_input: GuardInput, why: str) -> Verdict | None:
    """Return *allow* if a person started the run, for a guard about alerts; None otherwise.

    Args:
        guard_input: the input of the guard.
        why: why the guard is not needed then.
    """
    manual = next((item for item in guard_input.episodes if item.kind is EpisodeKind.MANUAL), None)
    if manual is None:
        return None
    who = manual.annotations.get("started_by", "a person")
    text = f"skipped, because {who} started this run: {why}"
    return Verdict(GuardAnswer.ALLOW, "", text, {"started_by": who})


def clock_time(at: datetime, now: datetime) -> str:
    """Format an instant in UTC: the time alone on the same day, otherwise with the date."""
    at, now = at.astimezone(UTC), now.astimezone(UTC)
    return f"{at:%H:%M:%S}Z" if at.date() == now.date() else f"{at:%Y-%m-%d %H:%M:%S}Z"
