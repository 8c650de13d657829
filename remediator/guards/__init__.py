"""Guards: checks that can block. On by default, evaluated when the plan is made and again right before every action.

A verdict is data with a typed reason and the inputs that led to it. "Cannot tell" is an answer of its own and never
means yes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict
from sqlalchemy import Connection

from remediator.inventory import Service
from remediator.plan import PlannedStep
from remediator.playbook import Playbook
from remediator.run import Episode, Run
from remediator.world import World


class Answer(StrEnum):
    """What a guard says."""

    ALLOW = "allow"
    BLOCK = "block"
    UNKNOWN = "unknown"


class Moment(StrEnum):
    """When a guard is asked."""

    PLAN = "plan"
    ACT = "act"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A guard's answer, why, and on what grounds."""

    answer: Answer
    reason: str = ""
    """A word from the guard's own closed list, the same in log, metric, audit, chat and page."""
    text: str = ""
    """The sentence for people, with the values."""
    inputs: Mapping[str, Any] = field(default_factory=dict)
    until: datetime | None = None
    """When asking again makes sense; None: when something changes, or the default pace."""


ALLOW = Verdict(Answer.ALLOW)


class Settings(BaseModel):
    """Base of a guard's settings in a playbook."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True, slots=True)
class Question:
    """What a guard is asked about."""

    moment: Moment
    now: datetime
    run: Run
    playbook: Playbook
    service: Service
    episodes: Sequence[Episode]
    settings: Any
    """The guard's own settings for this playbook: an instance of its ``Settings``."""
    step: PlannedStep | None = None
    """The step about to be done; None when the plan as a whole is judged."""


class Guard:
    """One kind of guard. Implement ``decide`` (from the store alone) or ``ask`` (needs the world), or both.

    ``decide`` runs inside the transaction that commits an action's intent, so that what it counts cannot be
    overdrawn by another replica; ``ask`` runs just before it.
    """

    name: ClassVar[str]
    reasons: ClassVar[frozenset[str]]
    """Every reason that it can give."""
    Settings: ClassVar[type[Settings]] = Settings

    def __init__(self, world: World) -> None:
        """Keep the clients that it needs, never state: that is the store's."""

    async def ask(self, question: Question) -> Verdict:
        """Answer from the world. An exception counts as unknown."""
        return ALLOW

    def decide(self, connection: Connection, question: Question) -> Verdict:
        """Answer from the store."""
        return ALLOW
