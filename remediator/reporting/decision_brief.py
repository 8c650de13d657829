"""The data for a decision within ten seconds: the fault, the steps, their cost, and the result without an answer.

All other data of a request is in :mod:`remediator.reporting.request_view`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from remediator.core.cost import excess
from remediator.core.plan import PlannedStep
from remediator.core.run import Episode
from remediator.pipeline.due_steps import Follows, reached_after
from remediator.reporting import request_text
from remediator.reporting.formatting import capital
from remediator.reporting.request_text import sanitize
from remediator.reporting.request_view import RequestView

_MAX_SUMMARY = 140
_MAX_LINE = 110
_MAX_TITLE = 80
_MAX_COSTS = 3


@dataclass(frozen=True, slots=True)
class BriefStep:
    """A step that is due, in plain words."""

    title: str
    only_if_needed: bool
    """The step is done only if the previous step does not help."""
    undoable: bool


@dataclass(frozen=True, slots=True)
class BriefCost:
    """One cost of the plan."""

    text: str
    severe: bool
    """It destroys data, or it is above the tolerance."""


@dataclass(frozen=True, slots=True)
class DecisionBrief:
    """The first screen of a request."""

    alert: Episode | None
    """The first alert of the run; None if the run has no alert."""
    more_alerts: int
    summary: str
    """The summary of the alert, as a quotation; empty if the alert has no summary."""
    measured: str
    """The worst value that a check has measured; empty if all checks passed."""
    cause: str
    """The likely cause; empty if no cause is known."""
    steps: tuple[BriefStep, ...]
    costs: tuple[BriefCost, ...]
    """The costs of the due steps, the most severe first."""
    more_costs: int
    undo: str
    """Whether the due steps can be undone; empty if only some can be undone: then each step shows it."""
    escalates_to: tuple[str, ...]


def brief(view: RequestView) -> DecisionBrief:
    """Return the first screen of a request. All texts are short; the page has the whole texts below."""
    plan, due = view.approval.plan, [step for step in view.approval.due if step.mutates]
    alert = view.alerts[0] if view.alerts else None
    said = "" if alert is None else alert.annotations.get("summary") or alert.annotations.get("description") or ""
    causes = view.causes
    others = {step.id for step in request_text.mutating_steps(plan)} - {step.id for step in due}
    reached = reached_after(plan, due[0].id if due else None, others)
    steps = []
    for number, step in enumerate(due):
        only_failure = reached.get(step.id) == frozenset({Follows.FAILURE})
        title, has_undo = sanitize(step.title, _MAX_TITLE), step.call.undo is not None
        steps.append(BriefStep(title, number > 0 and only_failure, has_undo))
    costs = sorted(dict.fromkeys(_costs(due)), key=lambda cost: not cost.severe)
    newest = {item.name: item for item in view.evidence if item.phase != "conclude"}
    failed = [item for item in newest.values() if item.status == "fail"]
    return DecisionBrief(
        alert,
        max(0, len(view.alerts) - 1),
        request_text.quote_alert(sanitize(said, _MAX_SUMMARY)) if said else "",
        sanitize(failed[0].summary, _MAX_LINE) if failed else "",
        sanitize(f"{causes[0]} (and {len(causes) - 1} more)" if len(causes) > 1 else causes[0], 130) if causes else "",
        tuple(steps),
        tuple(costs[:_MAX_COSTS]),
        max(0, len(costs) - _MAX_COSTS),
        _undo(due),
        plan.escalate_to,
    )


def _costs(due: Sequence[PlannedStep]) -> Iterator[BriefCost]:
    for step in due:
        if step.destructive:
            yield BriefCost("DESTROYS DATA that cannot be restored", severe=True)
        above = excess(step.cost, step.tolerance)
        yield from (BriefCost(sanitize(f"Loss above the tolerance: {loss}", _MAX_LINE), severe=True) for loss in above)
        if step.cost.text:
            yield BriefCost(sanitize(capital(step.cost.text), _MAX_LINE), severe=False)
        elif step.call.risk and not above:
            yield BriefCost(sanitize(capital(step.call.risk), _MAX_LINE), severe=False)


def _undo(due: Sequence[PlannedStep]) -> str:
    without = sum(step.call.undo is None for step in due)
    if not due:
        return ""
    if not without:
        return "It can be undone" if len(due) == 1 else "All steps can be undone"
    if without == len(due):
        return "It cannot be undone"
    return ""
