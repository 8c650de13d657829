"""Rules about the abilities of a target: the parts of its inventory entry, and the actions of its platform.

A playbook for several targets may name actions that some targets do not support. This is a risk only if no other action
is left.
"""

from __future__ import annotations

from collections.abc import Iterator

from remediator.authoring.lint import LintContext, Rule
from remediator.playbooks import cel
from remediator.playbooks.diagnostics import Diagnostic, Severity
from remediator.playbooks.model import Playbook
from remediator.runtime.preflight import Use, uses


class NotPossible(Rule):
    """A playbook uses an action or a check that its service cannot do: its inventory entry or platform lacks it."""

    id = "not-possible"
    severity = Severity.INFO
    why = "Such a step is never done, and such a check is always unknown. A playbook for several targets may intend it."
    fix = "add the part to the service in the inventory, or use an action that its platform supports"

    def check(self, context: LintContext) -> Iterator[Diagnostic]:
        for playbook in context.playbooks:
            for use, reason in _Impossible(context, playbook).uses:
                yield self.at(context, playbook, use.path, f"{use.name}: {reason}")


class NeverActs(Rule):
    """The target of a playbook supports no step of the playbook."""

    id = "never-acts"
    why = "Every run only escalates. No remedy is ever planned."
    fix = "use actions that the target supports: see docs/platforms.md and the inventory"

    def check(self, context: LintContext) -> Iterator[Diagnostic]:
        for playbook in context.playbooks:
            found = _Impossible(context, playbook)
            # If this target cannot provide the evidence of a condition, the step is meant for other targets.
            wanted = set(range(len(playbook.steps))) - found.conditional
            if wanted and wanted <= found.steps:
                reason = next(reason for use, reason in found.uses if use.path[0] == "steps")
                yield self.at(context, playbook, ("steps",), f"no step can ever be done: {reason}", key=True)


class NeverProved(Rule):
    """A check of verify is always unknown for the target of a playbook that acts."""

    id = "never-proved"
    why = "Verification needs all checks to be ok. Every run fails, also if its remedy helped."
    fix = "add the part to the service in the inventory, or use another check"

    def check(self, context: LintContext) -> Iterator[Diagnostic]:
        for playbook in context.playbooks:
            found = _Impossible(context, playbook)
            acts = set(range(len(playbook.steps))) - found.steps - found.conditional
            for use, reason in found.uses if acts else ():
                if use.path[0] == "verify":
                    yield self.at(context, playbook, use.path, f"{use.name} is always unknown: {reason}")


class _Impossible:
    """The parts of a playbook that none of its services supports."""

    def __init__(self, context: LintContext, playbook: Playbook) -> None:
        self._context = context
        self.uses = list(self._find(playbook))
        """The uses, each with the reason."""
        self.steps = {use.path[1] for use, _ in self.uses if use.path[0] == "steps" and len(use.path) == 3}
        """Positions of the steps whose action is impossible."""
        unknown = {playbook.diagnose[int(use.path[1])].id for use, _ in self.uses if use.path[0] == "diagnose"}
        self.conditional = set[int]()
        """Positions of the steps whose condition reads evidence that is always unknown."""
        for at, step in enumerate(playbook.steps):
            names = cel.compile(step.when).references if step.when is not None else ()
            if any(each.root == "evidence" and each.name in unknown for each in names):
                self.conditional.add(at)

    def _find(self, playbook: Playbook) -> Iterator[tuple[Use, str]]:
        inventory = self._context.inventory
        if inventory is None:
            return
        for use in uses(playbook, inventory):
            services = [inventory.service(name) for name in use.services]
            reasons = [self._context.catalogue.why_impossible(use.kind, use.name, each) for each in services]
            if reasons and all(reasons):
                others = ", and no other possible target supports it" if len(reasons) > 1 else ""
                yield use, reasons[0] + others
