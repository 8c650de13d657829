"""``no-verify``: nothing would prove success."""

from __future__ import annotations

from collections.abc import Iterator

from remediator.authoring.lint import Context, Rule
from remediator.playbooks.diagnostics import Diagnostic


class NoVerify(Rule):
    """Playbooks that change something and have no check in ``verify``."""

    id = "no-verify"
    what = "A playbook changes something but has no check that proves success."
    why = "Without proof no run succeeds: every run is escalated, even if the service is healthy."
    mend = "add checks under verify, for example a probe of the service and a PromQL expression"

    def check(self, context: Context) -> Iterator[Diagnostic]:
        for playbook in context.playbooks:
            if context.changes(playbook) and not playbook.verify.checks:
                yield self.at(context, playbook, ("verify",), "nothing would prove that the steps helped", key=True)
