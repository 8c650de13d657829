"""The due steps of a plan: the steps that an approval allows, and that people see with their risks.

A step is not due in each of these cases:

- Its condition does not hold or is not known yet.
- It is for other causes than the established causes.
- It was done, or it cannot be reached.

A later step that needs a separate approval is not due either. If such a step becomes due later, people are asked again
(promise 6).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from functools import partial

from remediator.core.outcome import Outcome
from remediator.core.plan import Plan, PlannedStep, goto_target
from remediator.pipeline import condition_scope
from remediator.playbooks import cel
from remediator.storage.repositories import evidence
from remediator.storage.repositories.attempts import Attempt
from remediator.storage.repositories.evidence import EvidenceRecord


class Follows(StrEnum):
    """Whether a step is reached after a success or a failure."""

    START = "start"
    """It is the first one."""
    SUCCESS = "success"
    """The step before succeeded."""
    FAILURE = "failure"
    """The previous step failed, or did not help."""


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


_ENDS = frozenset({"verify", "escalate", "abort"})
"""The arrows that lead to no step."""


def reached_after(
    plan: Plan, start: str | None = None, skipped: frozenset[str] | set[str] = frozenset()
) -> dict[str, frozenset[Follows]]:
    """Return the predecessors of each reachable step, in order.

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
            if arrow == "next":
                to = None if following is None else following.id
            else:
                to = None if arrow in _ENDS else goto_target(arrow)
            if to is not None:  # a step after a read-only step follows the step before it
                reached.setdefault(to, set()).update({follows} if step.mutates else after)
    return {step.id: frozenset(reached[step.id]) for step in plan.steps if step.id in reached}
