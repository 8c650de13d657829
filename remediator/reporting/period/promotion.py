"""The evidence for the next rung: what a playbook decided in shadow or with approval, against what people did."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from statistics import median
from typing import Any

from sqlalchemy import Connection

from remediator.core.clock import format_duration
from remediator.storage.repositories.promotion import RunDecision, list_since

ENOUGH = 10
"""Fewer decisions than this say little."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the records say of one playbook."""

    playbook: str
    shadow: int
    """Runs that said only what they would have done."""
    would_act: int
    """Of these, how many would have acted; the others would have asked, or were held by a guard."""
    over_by_itself: int
    """Of those that would have acted, how many alerts were over without us."""
    over_after: float | None
    """Seconds until those were over, in the middle: what people, or time, needed."""
    asked: int
    approved: int
    rejected: int
    unanswered: int
    decided_after: float | None
    """Seconds until people decided, in the middle."""
    acted: int
    healed: int
    not_healed: int
    blocked: dict[str, int]
    """How many runs each guard holds now."""

    @property
    def agreement(self) -> float | None:
        """Which part of the answers of people was yes."""
        answers = self.approved + self.rejected
        return None if answers == 0 else self.approved / answers

    @property
    def advice(self) -> str:
        """What the figures suggest. The decision is a person's."""
        if self.rejected or self.not_healed:
            return f"not yet: {self.rejected} rejected, {self.not_healed} not healed; look at those first"
        decisions = self.approved + self.would_act
        if decisions < ENOUGH:
            return f"too few decisions to say ({decisions} of at least {ENOUGH})"
        if self.approved >= ENOUGH:
            return f"people agreed {self.approved} of {self.approved} times and all {self.healed} healed: consider auto"
        return f"it would have acted {self.would_act} times: consider approve, so that people confirm it"


def evidence(connection: Connection, since: datetime, playbook: str | None = None) -> list[Evidence]:
    """One entry for each playbook that had a run since then."""
    runs = list_since(connection, since, playbook)
    names = sorted({run.playbook for run in runs})
    return [_of(name, [run for run in runs if run.playbook == name]) for name in names]


def _of(playbook: str, runs: Sequence[RunDecision]) -> Evidence:
    shadow = [run for run in runs if run.mode == "shadow"]
    would = [run for run in shadow if run.reason in ("shadow", "resolved") or run.status == "cancelled"]
    over = [run for run in would if run.alert_over_at is not None]
    asked = [run for run in runs if run.approval is not None and run.approval != "void"]
    acted = [run for run in runs if run.first_action_at is not None]
    held = Counter((run.reason or "").partition(":")[0] for run in runs if run.status == "blocked" and run not in would)
    return Evidence(
        playbook=playbook,
        shadow=len(shadow),
        would_act=len(would),
        over_by_itself=len(over),
        over_after=_middle(run.alert_over_at - run.created_at for run in over if run.alert_over_at),
        asked=len(asked),
        approved=_count(asked, "approved"),
        rejected=_count(asked, "rejected"),
        unanswered=_count(asked, "expired"),
        decided_after=_middle(run.decided_at - run.asked_at for run in asked if run.decided_at and run.asked_at),
        acted=len(acted),
        healed=sum(1 for run in acted if run.status == "succeeded"),
        not_healed=sum(1 for run in acted if run.status in ("failed", "escalated")),
        blocked=dict(sorted(held.items())),
    )


def _count(runs: Sequence[RunDecision], approval: str) -> int:
    return sum(1 for run in runs if run.approval == approval)


def _middle(lengths: Iterable[timedelta]) -> float | None:
    seconds = [length.total_seconds() for length in lengths]
    return median(seconds) if seconds else None


def as_json(item: Evidence) -> dict[str, Any]:
    """For ``--format json``."""
    return {**asdict(item), "agreement": item.agreement, "advice": item.advice}


def as_text(item: Evidence) -> list[str]:
    """For people."""
    lines = [item.playbook]
    if item.shadow:
        lines.append(
            f"  shadow    {item.shadow} runs, {item.would_act} would have acted; of those {item.over_by_itself} "
            f"were over without us{_after(item.over_after)}"
        )
    if item.asked:
        lines.append(
            f"  people    asked {item.asked} times: {item.approved} approved, {item.rejected} rejected, "
            f"{item.unanswered} not answered{_after(item.decided_after)}"
        )
    lines.append(f"  actions   {item.acted} runs acted: {item.healed} healed, {item.not_healed} not")
    if item.blocked:
        lines.append("  held now  " + ", ".join(f"{count} by {name}" for name, count in item.blocked.items()))
    return [*lines, f"  advice    {item.advice}"]


def _after(seconds: float | None) -> str:
    return "" if seconds is None else f" (after {format_duration(timedelta(seconds=round(seconds)))} in the middle)"
