"""The variables of conditions: parameters, evidence, results of steps, the target, and the cost of a step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from remediator.core.cost import Cost
from remediator.core.plan import PlannedStep
from remediator.playbooks import cel
from remediator.storage.repositories.attempts import Attempt
from remediator.storage.repositories.evidence import EvidenceRecord, established_causes


def variables(
    parameters: Mapping[str, Any],
    target: tuple[str, str],
    seen: Sequence[EvidenceRecord],
    tried: Sequence[Attempt] = (),
    cost: Cost | None = None,
) -> Mapping[str, Any]:
    """Return the variables that a condition can use. Later evidence of the same name replaces earlier evidence.

    Args:
        parameters: of the plan.
        target: name and platform.
        seen: the evidence so far.
        tried: the attempts so far.
        cost: of the step that the condition is about. An unknown value is omitted, so that no condition on it holds.
    """
    return {
        "params": parameters,
        "evidence": {item.name: _evidence(item) for item in seen if item.phase in ("diagnose", "step", "verify")},
        "steps": {
            item.step: {"status": item.outcome, "output": _known((item.result or {}).get("output", {}))}
            for item in tried
        },
        "target": {"name": target[0], "platform": target[1]},
        "cost": {} if cost is None else cost.known(),
    }


def _evidence(item: EvidenceRecord) -> Mapping[str, Any]:
    """Return the evidence without ``ok`` if it is unknown, so that no condition on ``ok``, also with ``!``, holds."""
    known = {"status": item.status, "facts": _known(item.facts)}
    return known if item.status == "unknown" else {**known, "ok": item.status == "ok"}


def _known(values: Any) -> Any:
    """Return values without nulls: what a source did not report is unknown, also under ``!=`` or ``!``."""
    if isinstance(values, Mapping):
        return {name: _known(value) for name, value in values.items() if value is not None}
    return values


def may_apply(
    step: PlannedStep, parameters: Mapping[str, Any], target: tuple[str, str], seen: Sequence[EvidenceRecord]
) -> bool:
    """Return whether a step may apply, as far as the evidence shows. A condition that is unknown may hold later."""
    causes = set(established_causes(seen))
    if step.mutates and step.causes and causes and not causes & set(step.causes):
        return False
    return step.when is None or cel.compile(step.when).evaluate(variables(parameters, target, seen)) is not False
