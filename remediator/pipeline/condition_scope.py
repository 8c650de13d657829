"""What conditions can speak of: the evidence so far, what steps gave, parameters, the target."""

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
    """The roots of a condition; later evidence of the same name replaces earlier.

    Args:
        target: name and platform.
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
    """What could not be seen has no ``ok``, so that a condition on it is unknown and not false."""
    known = {"status": item.status, "facts": item.facts, "summary": item.summary}
    return known if item.status == "unknown" else {**known, "ok": item.status == "ok"}
