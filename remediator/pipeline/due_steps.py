"""Which steps of a plan are due: those that an approval allows, and that people are shown with their risks.

A step is not due if its condition does not hold or is not known yet, if it is for other causes than the established
ones, if it was done, or if it cannot be reached. A later step that needs an approval of its own is not due either. If
such a step becomes due later, people are asked again (promise 6).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from functools import partial

from remediator.core.outcome import Outcome
from remediator.core.plan import Plan, PlannedStep
from remediator.pipeline import condition_scope
from remediator.playbooks import cel
from remediator.storage.repositories import evidence
from remediator.storage.repositories.attempts import Attempt
from remediator.storage.repositories.evidence import EvidenceRecord


class Follows(StrEnum):
    """After what a step is reached."""

    START = "start"
    """It is the first one."""
    SUCCESS = "success"
    """The step before succeeded."""
    FAILURE = "failure"
    """The step before failed, or did not help."""


def due_steps(
    plan: Plan,
    target: tuple[str, str],
    seen: Sequence[EvidenceRecord],
    tried: Sequence[Attempt] = (),
    start: str | None = None,
) -> tuple[str, ...]:
    """Return the IDs of the steps that change something and are due, in order.

    Args:
        plan: the plan.
        target: name and platform of the target.
        seen: the evidence so far.
        tried: the attempts so far.
        start: ID of the next step; None for the first one.
    """
    causes = set(evidence.established_causes(seen))
    scope = partial(condition_scope.variables, plan.parameters, target, seen, tried)
    skipped = {step.id for step in plan.steps if not _applies(step, scope(step.cost), causes)}
    skipped |= {item.step for item in tried if item.mutates and item.outcome == Outcome.OK.value}
    due: list[str] = []
    for step_id in reached_after(plan, start, skipped):
        step = plan.step(step_id)
        if step.mutates and step_id not in skipped and not (due and (step.approval or step.destructive)):
            due.append(step_id)
    return tuple(due)


def _applies(step: PlannedStep, scope: Mapping[str, object], causes: set[str]) -> bool:
    """Return whether a step is done if it is reached, as far as is known now."""
    if not step.mutates:
        return True
    if step.call.infeasible_reason or (step.causes and causes and not causes & set(step.causes)):
        return False
    return step.when is None or cel.compile(step.when).evaluate(scope) is True


def reached_after(
    plan: Plan, start: str | None = None, skipped: frozenset[str] | set[str] = frozenset()
) -> dict[str, frozenset[Follows]]:
    """Return after what each step is reached, in order; steps that no arrow leads to are left out.

    Args:
        plan: the plan.
        start: ID of the next step; None for the first one.
        skipped: IDs of steps that are passed over.
    """
    reached: dict[str, set[Follows]] = {}
    if plan.steps:
        reached[start or plan.steps[0].id] = {Follows.START}
    for step in plan.steps:
        after = reached.get(step.id)
        if after is None:
            continue
        following = plan.after(step.id)
        if step.id in skipped:
            if following is not None:
                reached.setdefault(following.id, set()).update(after)
            continue
        for arrow, follows in ((step.on_success, Follows.SUCCESS), (step.on_failure, Follows.FAILURE)):
            to = following.id if arrow == "next" and following is not None else None
            if arrow.startswith("goto "):
                to = arrow.removeprefix("goto ")
            if to is not None:  # what follows a step that only reads follows what was before it
                reached.setdefault(to, set()).update({follows} if step.mutates else after)
    return {step.id: frozenset(reached[step.id]) for step in plan.steps if step.id in reached}
