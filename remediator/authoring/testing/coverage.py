"""Measure which branches of a playbook its tests take."""

from __future__ import annotations

from collections.abc import Iterable

from remediator.authoring.testing.execute import CaseResult
from remediator.playbooks.model import Playbook


def branches(playbook: Playbook) -> tuple[str, ...]:
    """Return every branch of a playbook, by name."""
    found = []
    for step in playbook.steps:
        found += [f"{step.id} is done", f"{step.id} fails"]
        if step.when is not None or step.for_:
            found.append(f"{step.id} is skipped")
    found += [_concluded(item.cause) for item in playbook.conclude]
    if playbook.steps and playbook.verify.checks:
        found += ["success is proved", "success is not proved"]
    return tuple(found)


def taken(results: Iterable[CaseResult]) -> set[str]:
    """Return the branches that were taken."""
    found: set[str] = set()
    for one in results:
        found |= {f"{item.step} is {'done' if item.outcome == 'ok' else 'failed'}" for item in one.attempts}
        read = [
            item for item in one.evidence if item.phase == "step"
        ]  # a read-only step records evidence, not an attempt
        found |= {f"{item.name} is {'done' if item.status == 'ok' else 'failed'}" for item in read}
        found |= {f"{step} is skipped" for step in one.skipped}
        found |= {_concluded(item.summary) for item in one.evidence if item.phase == "conclude"}
        for before, after in zip(one.statuses, one.statuses[1:], strict=False):
            if before == "verifying" and after != "verifying":
                found.add("success is proved" if after == "succeeded" else "success is not proved")
    return {name.replace(" is failed", " fails") for name in found}


def _concluded(cause: str) -> str:
    return f"cause {cause[:50]!r}"
