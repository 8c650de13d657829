"""What playbooks would have done: history through the engine's own code, on a virtual clock, in a made-up world.

Matching, planning, guards that judge by time and by what was done, approvals, steps and verification are production's.
What history does not hold is assumed, always in the same way, and said with every result: see :data:`ASSUMED`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

ASSUMED = (
    "people approve two minutes after they are asked",
    "checks fail until the run's first change of something, and hold after it; dependencies are well",
    "diagnosing actions succeed with no facts, so a condition on facts does not hold",
    "guards that look at the world or at people's hands allow: only those that judge by time and record are asked",
    "playbooks stand on the rung that their files give them",
)
"""What history cannot tell."""


@dataclass(frozen=True, slots=True)
class Event:
    """A notification, and when it came."""

    at: datetime
    body: bytes


@dataclass(frozen=True, slots=True)
class History:
    """What came, in order, and from when to when it was looked for."""

    start: datetime
    end: datetime
    events: tuple[Event, ...]
    source: str


@dataclass(frozen=True, slots=True)
class WouldRun:
    """A run as it would have been."""

    at: datetime
    playbook: str
    target: str
    status: str
    reason: str
    actions: tuple[str, ...]
    asked: int
    """How often people would have been asked."""
    blocked: frozenset[str]
    """The guards that held it, at least for a while."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one set of playbooks would have done with a history."""

    history: History
    runs: tuple[WouldRun, ...]
    episodes: int
    unmatched: Mapping[str, int] = field(default_factory=dict)
    """Episodes that no playbook took, by alertname."""
