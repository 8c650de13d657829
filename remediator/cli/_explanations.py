"""Text of explanations, from their data: a playbook for an alert, or for a manual start."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from remediator.core.text import label_text


def alert_lines(labels: Mapping[str, str], playbooks: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield why playbooks do not match an alert, then the explanation of each playbook that matches."""
    shown = label_text(labels)
    yield f"receive  {{{shown}}}"
    yield from (
        f"match    not {item['playbook']}: {'; '.join(item['missing'])}" for item in playbooks if not item["matches"]
    )
    matching = [item for item in playbooks if item["matches"]]
    if not matching:
        yield "match    no playbook matches this alert"
    for item in matching:
        yield from playbook_lines(item)


def playbook_lines(found: Mapping[str, Any]) -> Iterator[str]:
    """Yield the explanation of one playbook: target, mode, plan, cost, guards, verification and the next step."""
    yield f"match    {found['playbook']}, target {found['target'] or '?'}, mode {found['mode']}"
    about = found["about"]
    if about is not None:  # how the alert compares with the target: each label with both values, then the relation
        for side in about["labels"]:
            same = "same" if side["same"] else "different"
            yield f"about    {side['label']}: alert {side['alert']!r}, target {side['service']}: {same}"
        yield f"about    {about['relation']}: {about['text']}"
        if about["any"] is not None:
            yield f"about    any label is accepted: {about['any']}"
    plan = found["plan"]
    if plan is None:
        yield f"plan     {found['error']}"
    else:
        yield from (f"plan     {step['id']}: {step['call']['summary']}" for step in found["steps"])
        yield from (f"cost     {step['id']}: {step['cost']}" for step in found["steps"] if step["cost"])
        yield from (
            f"cost     {step['id']}: needs an approval: {loss}" for step in found["steps"] for loss in step["losses"]
        )
        yield from (f"guard    {item['guard']}: {item['text']}" for item in found["guards"])
        yield from (f"verify   {check['check']}" for check in plan["checks"])
    yield f"next     {found['next_step']}"
