"""The state of a firing alert: whether anything is done about it, and why or why not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from remediator.core.run import Episode, Run, Status
from remediator.core.run_detail import BlockedDetail
from remediator.pipeline.match import Explanation, Index
from remediator.reporting import outcome_text
from remediator.reporting.formatting import format_time
from remediator.reporting.request_text import sanitize

_MAX_COMPARED = 300
"""Most playbooks with which a page shows the nearest playbook for every alert."""
_DOING = {
    Status.MATCHED: "A plan is being made",
    Status.PLANNED: "The guards are being evaluated",
    Status.AWAITING_APPROVAL: "Waiting for an approval",
    Status.RUNNING: "The remedy is running",
    Status.UNKNOWN_OUTCOME: "It is unknown whether a call took effect; the target is being observed",
    Status.VERIFYING: "The remedy was done; its success is being verified",
}


@dataclass(frozen=True, slots=True)
class AlertState:
    """The state of the remedy for an alert."""

    text: str
    """The state of the remedy and the reason, in one sentence."""
    run: Run | None
    """The newest run; None if no playbook matched."""
    needs_person: bool
    """Nothing is being done, or a decision is needed."""


def describe_alert(alert: Episode, its_runs: Sequence[Run], index: Index) -> AlertState:
    """Return the state of the remedy for a firing alert.

    Args:
        alert: the alert.
        its_runs: the runs for it, the newest first.
        index: the active playbooks.
    """
    if not its_runs:
        return AlertState(sanitize(_without_run(alert, index)), None, needs_person=True)
    run = its_runs[0]
    if run.status is Status.BLOCKED and isinstance(run.detail, BlockedDetail):
        detail = run.detail
        by = f" by {detail.guard}" if detail.guard else f" ({run.reason.replace('_', ' ')})" if run.reason else ""
        until = "" if detail.until is None else f" until {format_time(detail.until)}"
        why = f": {detail.text}" if detail.text else ""
        return AlertState(sanitize(f"Blocked{by}{until}{why}"), run, needs_person=False)
    if run.status in _DOING:
        return AlertState(_DOING[run.status], run, needs_person=run.status is Status.AWAITING_APPROVAL)
    if run.status is Status.SUCCEEDED:
        at = "" if run.finished_at is None else f" at {format_time(run.finished_at)}"
        return AlertState(f"Healed{at}, according to its checks; the alert has not resolved yet", run, False)
    said = outcome_text.headline(run, ())
    return AlertState(sanitize(f"Nothing is being done: {run.status.value}, {said}"), run, needs_person=True)


def _without_run(alert: Episode, index: Index) -> str:
    matching = index.match(alert.labels)
    if matching:
        return f"Playbook {matching[0].name} matches; no run has begun yet"
    nothing = "Nothing is being done: no playbook matches"
    if len(index.playbooks) > _MAX_COMPARED:
        return nothing
    candidates = [item for item in index.explain(alert.labels) if item.unmet]
    if not candidates:
        return nothing
    nearest = min(candidates, key=_distance)
    failed = "; ".join(map(str, nearest.unmet[:2]))
    return f"{nothing}; the nearest is {nearest.playbook.name}, matcher {failed}"


def _distance(candidate: Explanation) -> tuple[bool, int]:
    """Sort a playbook for another alert after all playbooks for this one, then by the number of matchers that fail."""
    return any(item.label == "alertname" for item in candidate.unmet), len(candidate.unmet)
