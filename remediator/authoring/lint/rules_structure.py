"""Rules about the structure of a playbook: its steps, its escalation, and the files that belong to it."""

from __future__ import annotations

from collections.abc import Iterator

from remediator.authoring.lint import LintContext, Rule
from remediator.playbooks.catalogue import ActionTraits
from remediator.playbooks.diagnostics import Diagnostic, Severity
from remediator.playbooks.model import Playbook
from remediator.playbooks.steps import Goto, Step


class NoEscalation(Rule):
    """A playbook has no channel under escalate.to, and its target has no owner in the inventory."""

    id = "no-escalation"
    why = "When the remedy fails, only the log records it and no person is notified."
    fix = "add a channel to escalate.to, or an owner to the service in the inventory"

    def check(self, context: LintContext) -> Iterator[Diagnostic]:
        services = {} if context.inventory is None else context.inventory.services
        for playbook in context.playbooks:
            targets = [services[playbook.target]] if playbook.target in services else list(services.values())
            owned = bool(targets) and all(service.owner for service in targets)
            if not playbook.escalate.to and not owned:
                yield self.at(
                    context, playbook, ("escalate",), "no person is notified when this playbook fails", key=True
                )


class NoSummary(Rule):
    """A playbook has no summary."""

    id = "no-summary"
    severity = Severity.INFO
    why = "An approver reads the summary first."
    fix = "describe the fault and the remedy in one sentence: summary: …"

    def check(self, context: LintContext) -> Iterator[Diagnostic]:
        for playbook in context.playbooks:
            if not playbook.summary.strip():
                yield self.at(context, playbook, ("name",), f"{playbook.name} has no summary")


class NoTest(Rule):
    """There is no <name>.test.yaml beside the playbook."""

    id = "no-test"
    severity = Severity.INFO
    why = "The first run is then in production."
    fix = "write the expected result for each alert, and run remediator test"

    def check(self, context: LintContext) -> Iterator[Diagnostic]:
        for playbook in context.playbooks:
            if playbook.name not in context.tested:
                yield self.at(
                    context, playbook, ("name",), f"there is no {playbook.name}.test.yaml beside the playbook"
                )


class UnreachableStep(Rule):
    """No path through the playbook reaches this step."""

    id = "unreachable-step"
    why = "The remedy is never tried."
    fix = "let an earlier step continue to it (on_success, on_failure: next or goto), or remove it"

    def check(self, context: LintContext) -> Iterator[Diagnostic]:
        for playbook in context.playbooks:
            reached = reachable_steps(context, playbook)
            for at, step in enumerate(playbook.steps):
                if step.id not in reached:
                    message = f"no earlier step leads to the step {step.id!r}"
                    yield self.at(context, playbook, ("steps", at, "id"), message)


def reachable_steps(context: LintContext, playbook: Playbook) -> set[str]:
    """Return the IDs of the steps that a run can reach. One pass is enough, since a run only moves forward."""
    reached = {playbook.steps[0].id} if playbook.steps else set()
    for at, step in enumerate(playbook.steps):
        if step.id in reached:
            following = playbook.steps[at + 1].id if at + 1 < len(playbook.steps) else None
            reached.update(target for target in _successors(step, following, context.traits(step)) if target)
    return reached


def _successors(step: Step, following: str | None, traits: ActionTraits) -> Iterator[str | None]:
    if step.when is not None or step.for_:
        yield following  # a step is skipped if its condition does not hold, or if it is for other causes
    # a verification that fails continues as on_failure says
    for arrow in (step.success_arrow(traits), step.failure_arrow):
        if isinstance(arrow, Goto):
            yield arrow.goto
        elif arrow == "next":
            yield following
