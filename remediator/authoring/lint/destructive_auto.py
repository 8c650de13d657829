"""``destructive-auto``: something that may lose data runs without a person."""

from __future__ import annotations

from collections.abc import Iterator

from remediator.authoring.lint import Context, Rule
from remediator.playbooks.diagnostics import Diagnostic


class DestructiveAuto(Rule):
    """Steps of automatic playbooks whose action declares itself destructive, and that ask nobody."""

    id = "destructive-auto"
    what = "A playbook in mode auto has a step whose action may lose data, without an approval."
    why = "A wrong diagnosis then deletes data without a human decision."
    mend = "set approval: required on the step, or approval.required on the playbook, or mode: approve"

    def check(self, context: Context) -> Iterator[Diagnostic]:
        for playbook in context.playbooks:
            if "auto" not in playbook.modes or playbook.approval.required:
                continue
            for at, step in enumerate(playbook.steps):
                if context.traits(step).destructive and step.approval != "required":
                    message = f"{step.action} may lose data, and runs without a person in auto mode"
                    yield self.at(context, playbook, ("steps", at, "action"), message)
