"""Guards: checks that can block. On by default, evaluated when the plan is made and again right before every action.

A verdict is data with a typed reason and the inputs that led to it. "Cannot tell" is an answer of its own and never
means yes.
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
from remediator.core.run import Episode, Run
from remediator.extensions.checks.base import Evidence
from remediator.extensions.clientset import ClientSet
from remediator.extensions.platforms.base import ServiceStatus
from remediator.playbooks.inventory import Inventory, Service
from remediator.playbooks.model import Playbook
from remediator.storage import Tx


class GuardAnswer(StrEnum):
    """What a guard says."""

    ALLOW = "allow"
    BLOCK = "block"
    UNKNOWN = "unknown"


_SPOKEN = {GuardAnswer.ALLOW: "allowed", GuardAnswer.BLOCK: "blocked", GuardAnswer.UNKNOWN: "cannot tell"}


class Phase(StrEnum):
    """When a guard is asked."""

    PLAN = "plan"
    ACT = "act"
    VERIFY = "verify"
    """After a step, while it is looked at whether it helped: only :meth:`Guard.harm` is asked."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A guard's answer, why, and on what grounds."""

    answer: GuardAnswer
    reason: str = ""
    """A word from the guard's own closed list, the same in log, metric, audit, chat and page."""
    text: str = ""
    """The sentence for people, with the values, without the answer itself."""
    inputs: Mapping[str, Any] = field(default_factory=dict)
    until: datetime | None = None
    """When asking again makes sense; None: when something changes, or the default pace."""

    @property
    def sentence(self) -> str:
        """As people read it: ``blocked: budget 3/1h for redis used by runs a, b, c; next free 03:41:00Z``."""
        return f"{_SPOKEN[self.answer]}: {self.text}" if self.text else _SPOKEN[self.answer]


ALLOW = Verdict(GuardAnswer.ALLOW)


class Settings(BaseModel):
    """Base of a guard's settings in a playbook."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    def off(self) -> str:
        """How these settings switch the guard off, all of it or a part, in words; empty if they do not."""
        return ""


class TargetView(Protocol):
    """What guards may look at beside their own clients; asked once in a judgement however many guards ask."""

    async def status(self) -> ServiceStatus:
        """What the platform says of the target; raises what platforms raise."""
        ...

    async def check(self, name: str, parameters: Mapping[str, Any]) -> Evidence:
        """One check on the target, bounded in time; whatever goes wrong is *unknown*, with the reason."""
        ...


@dataclass(frozen=True, slots=True)
class GuardInput:
    """What a guard is asked about."""

    moment: Phase
    now: datetime
    run: Run
    playbook: Playbook
    service: Service
    inventory: Inventory
    episodes: Sequence[Episode]
    settings: Any
    """The guard's own settings for this playbook: an instance of its ``Settings``."""
    sight: TargetView
    step: PlannedStep | None = None
    """The step about to be done; None when the plan as a whole is judged."""


@dataclass(frozen=True, slots=True)
class RunSummary:
    """A run that ended, for guards that learn from it."""

    run: Run
    playbook: Playbook
    written_mode: str
    """The rung that the playbook's file gives it here."""
    settings: Any
    ids: Ids
    actor: str


class Guard:
    """One kind of guard. Implement ``decide`` (from the store alone) or ``ask`` (needs the world), or both.

    ``decide`` runs inside the transaction that commits an action's intent, so that what it counts cannot be
    overdrawn by another replica; ``ask`` runs just before it.
    """

    name: ClassVar[str]
    reasons: ClassVar[frozenset[str]]
    """Every reason that it can give."""
    Settings: ClassVar[type[Settings]] = Settings
    waits_for_runs: ClassVar[bool] = False
    """What it blocks may be free when another run ends: such runs are looked at again then."""

    def __init__(self, world: ClientSet) -> None:
        """Keep the clients that it needs, never state: that is the store's."""

    def looks_back(self, settings: Any) -> timedelta:
        """How old the runs are, at most, that ``decide`` reads; they are not forgotten before."""
        return timedelta(0)

    async def ask(self, question: GuardInput) -> Verdict:
        """Answer from the world. An exception counts as unknown."""
        return ALLOW

    def decide(self, connection: Connection, question: GuardInput) -> Verdict:
        """Answer from the store."""
        return ALLOW

    async def harm(self, question: GuardInput, before: Mapping[str, Any]) -> Verdict:
        """After a step: has it done harm? *Block* stops the run; not being able to tell does not.

        Args:
            question: with the step that was done.
            before: the inputs of this guard's own first verdict before a step of this run.
        """
        return ALLOW

    def learn(self, tx: Tx, lesson: RunSummary) -> None:
        """A run that acted has ended, in this transaction: write down what later questions need, and tell people."""


def clock_time(at: datetime, now: datetime) -> str:
    """An instant as people read it in a sentence: the time alone on the same day, with the date otherwise."""
    at, now = at.astimezone(UTC), now.astimezone(UTC)
    return f"{at:%H:%M:%S}Z" if at.date() == now.date() else f"{at:%Y-%m-%d %H:%M:%S}Z"


def listed(names: Sequence[str], most: int = 5) -> str:
    """``a, b, c``, and how many more where there are many."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
