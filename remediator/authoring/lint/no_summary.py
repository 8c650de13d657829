"""``no-summary``: a playbook does not say what it is for."""

from __future__ import annotations

from collections.abc import Iterator

from remediator.authoring.lint import Context, Rule
from remediator.playbooks.diagnostics import Diagnostic, Severity


class NoSummary(Rule):
    """Playbooks without a summary."""

    id = "no-summary"
    severity = Severity.INFO
    what = "A playbook has no summary."
    why = "An approver reads the summary first."
    mend = "describe in one sentence what it fixes and how: summary: …"

    def check(self, context: Context) -> Iterator[Diagnostic]:
        for playbook in context.playbooks:
            if not playbook.summary.strip():
                yield self.at(context, playbook, ("name",), f"{playbook.name} does not say what it is for")
