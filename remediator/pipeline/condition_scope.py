"""The variables of conditions: parameters, evidence, results of steps, and the target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from remediator.storage.repositories.attempts import Attempt
from remediator.storage.repositories.evidence import EvidenceRecord


def variables(
    parameters: Mapping[str, Any],
    target: tuple[str, str],
    seen: Sequence[EvidenceRecord],
    tried: Sequence[Attempt] = (),
) -> Mapping[str, Any]:
    """Return the variables that a condition can use. Later evidence of the same name replaces earlier evidence.

    Args:
        parameters: of the plan.
        target: name and platform.
        seen: the evidence so far.
        tried: the attempts so far.
    """
    return {
        "params": parameters,
        "evidence": {item.name: _evidence(item) for item in seen},
        "steps": {
            item.step: {"status": item.outcome, "output": (item.result or {}).get("output", {})} for item in tried
        },
        "target": {"name": target[0], "platform": target[1]},
    }


def _evidence(item: EvidenceRecord) -> Mapping[str, Any]:
    """Return the evidence without ``ok`` if it is unknown: a condition on ``ok`` is then unknown, and not false."""
    known = {"status": item.status, "facts": item.facts, "summary": item.summary}
    return known if item.status == "unknown" else {**known, "ok": item.status == "ok"}
