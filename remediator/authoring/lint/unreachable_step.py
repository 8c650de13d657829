"""``unreachable-step``: no way leads to a step."""

from __future__ import annotations

from collections.abc import Iterator

from remediator.authoring.lint import Context, Rule
from remediator.playbooks.diagnostics import Diagnostic
from remediator.playbooks.model import Goto, Playbook, Step


class UnreachableStep(Rule):
    """Steps that nothing before them leads to."""

    id = "unreachable-step"
    what = "No path through the playbook reaches this step."
    why = "The remedy is never tried."
    mend = "let an earlier step continue to it (on_success, on_failure: next or goto), or remove it"

    def check(self, context: Context) -> Iterator[Diagnostic]:
        for playbook in context.playbooks:
            reached = reachable(context, playbook)
            for at, step in enumerate(playbook.steps):
                if step.id not in reached:
                    message = f"nothing leads to the step {step.id!r}"
                    yield self.at(context, playbook, ("steps", at, "id"), message)


def reachable(context: Context, playbook: Playbook) -> set[str]:
    """The ids of the steps that some course of events comes to; all ways lead forward."""
    reached = {playbook.steps[0].id} if playbook.steps else set()
    for at, step in enumerate(playbook.steps):
        if step.id in reached:
            following = playbook.steps[at + 1].id if at + 1 < len(playbook.steps) else None
            reached.update(target for target in _onward(step, following, context.traits(step).mutates) if target)
    return reached


def _onward(step: Step, following: str | None, mutates: bool) -> Iterator[str | None]:
    if step.when is not None:
        yield following  # a step that does not apply is passed over
    for arrow in (step.on_success or ("verify" if mutates else "next"), step.on_failure or "next"):
        if isinstance(arrow, Goto):
            yield arrow.goto
        elif arrow == "next":
            yield following
    # verify that fails takes on_failure, which is counted already
