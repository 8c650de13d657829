"""Evidence for raising the mode of a playbook: its decisions in shadow or with approval, compared with the results."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from statistics import median
from typing import Any

from pydantic import TypeAdapter, computed_field
from pydantic.dataclasses import dataclass
from sqlalchemy import Connection

from remediator.core.approval import ApprovalStatus
from remediator.core.clock import format_duration
from remediator.core.reason import Reason
from remediator.core.run_detail import ShadowDecision
from remediator.storage.repositories.promotion import RunDecision, list_since

MIN_DECISIONS = 10
"""Fewest decisions for a recommendation of a mode."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """The recorded decisions and outcomes of one playbook, and the answer of the API about it."""

    playbook: str
    shadow: int
    """Runs in shadow mode."""
    would_act: int
    """Shadow runs that would have acted.

    The other runs had no step to do, would have requested approval, or a guard blocked them.
    """
    resolved: int
    """Runs of ``would_act`` whose alert was resolved without the service."""
    resolved_after: float | None
    """Median seconds until those alerts were resolved."""
    requested: int
    approved: int
    rejected: int
    expired: int
    decided_after: float | None
    """Median seconds from a request to its decision."""
    acted: int
    healed: int
    not_healed: int
    blocked: dict[str, int]
    """Number of runs that each guard blocks now."""

    @computed_field  # type: ignore[prop-decorator]
    @property
    def agreement(self) -> float | None:
        """Return the share of decisions that were approvals; None without decisions."""
        answers = self.approved + self.rejected
        return None if answers == 0 else self.approved / answers

    @computed_field  # type: ignore[prop-decorator]
    @property
    def advice(self) -> str:
        """Return advice from the numbers. An operator decides."""
        if self.rejected or self.not_healed:
            return f"keep the mode: {self.rejected} rejected, {self.not_healed} not healed; review those runs first"
        decisions = self.approved + self.would_act
        if decisions < MIN_DECISIONS:
            return f"keep the mode: too few decisions ({decisions} of at least {MIN_DECISIONS})"
        if self.approved >= MIN_DECISIONS:
            return f"consider auto: all {self.approved} requests were approved and all {self.healed} runs healed"
        return f"consider approve: it would have acted {self.would_act} times; approvers can then confirm its decisions"

    @computed_field  # type: ignore[prop-decorator]
    @property
    def text(self) -> list[str]:
        """Return the lines for a terminal."""

        def after(seconds: float | None) -> str:
            return "" if seconds is None else f" (median {format_duration(timedelta(seconds=round(seconds)))})"

        lines = [self.playbook]
        if self.shadow:
            lines.append(
                f"  shadow     {self.shadow} runs, {self.would_act} would have acted; {self.resolved} of those alerts "
                f"were resolved without the service{after(self.resolved_after)}"
            )
        if self.requested:
            lines.append(
                f"  approvals  {self.requested} requested: {self.approved} approved, {self.rejected} rejected, "
                f"{self.expired} expired{after(self.decided_after)}"
            )
        lines.append(f"  actions    {self.acted} runs acted: {self.healed} healed, {self.not_healed} did not")
        if self.blocked:
            lines.append("  blocked    " + ", ".join(f"{count} by {name}" for name, count in self.blocked.items()))
        return [*lines, f"  advice     {self.advice}"]


def evidence(connection: Connection, since: datetime, playbook: str | None = None) -> list[Evidence]:
    """Return the evidence of each playbook that had a run since then."""
    runs = list_since(connection, since, playbook)
    names = sorted({run.playbook for run in runs})
    return [_of(name, [run for run in runs if run.playbook == name]) for name in names]


def _of(playbook: str, runs: Sequence[RunDecision]) -> Evidence:
    shadow = [run for run in runs if run.mode == "shadow"]
    would = [run for run in shadow if run.would == ShadowDecision.ACT]
    resolved = [run for run in would if run.alert_over_at is not None]
    requested = [run for run in runs if run.approval is not None and run.approval != ApprovalStatus.VOID]
    answers = Counter(run.approval for run in requested)
    acted = [run for run in runs if run.first_action_at is not None]
    over = Reason.RESOLVED  # such a run waits until its episode closes; no guard blocks it
    blocked = [run for run in runs if run.status == "blocked" and run.would is None and run.reason != over]
    held = Counter(run.blocked_by or run.reason or "" for run in blocked)
    return Evidence(
        playbook=playbook,
        shadow=len(shadow),
        would_act=len(would),
        resolved=len(resolved),
        resolved_after=_median(run.alert_over_at - run.created_at for run in resolved if run.alert_over_at),
        requested=len(requested),
        approved=answers[ApprovalStatus.APPROVED],
        rejected=answers[ApprovalStatus.REJECTED],
        expired=answers[ApprovalStatus.EXPIRED],
        decided_after=_median(run.decided_at - run.asked_at for run in requested if run.decided_at and run.asked_at),
        acted=len(acted),
        healed=sum(1 for run in acted if run.status == "succeeded"),
        not_healed=sum(1 for run in acted if run.status in ("failed", "escalated")),
        blocked=dict(sorted(held.items())),
    )


def _median(spans: Iterable[timedelta]) -> float | None:
    seconds = [span.total_seconds() for span in spans]
    return median(seconds) if seconds else None


_ANSWER = TypeAdapter(Evidence)


def as_json(item: Evidence) -> dict[str, Any]:
    """Return the evidence for ``--format json`` and the API, with its lines for a terminal."""
    return dict(_ANSWER.dump_python(item))
