"""Rules about rights: what the remediator may do on its platforms. They are checked only with ``--live``."""

from __future__ import annotations

from collections.abc import Iterator

from remediator.authoring.lint import LintContext, Rule
from remediator.playbooks.diagnostics import Diagnostic
from remediator.runtime.preflight import uses


class MissingRight(Rule):
    """A playbook uses an action that the account of the remediator may not do on its target (only with ``--live``)."""

    id = "missing-right"
    why = "The action fails during an incident, and its plan is refused."
    fix = "grant the right to the account of the remediator, or take the action out of the playbook"

    def check(self, context: LintContext) -> Iterator[Diagnostic]:
        if context.inventory is None:
            return
        problems = {(each.service, each.action): each for each in context.rights or ()}
        for playbook in context.playbooks:
            for use in uses(playbook, context.inventory):
                for service in use.services if use.kind == "action" else ():
                    if problem := problems.get((service, use.name)):
                        message = f"{use.name} on {service}: rights {problem.text}"
                        yield self.at(context, playbook, use.path, message)
