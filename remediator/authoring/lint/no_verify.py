"""``no-verify``: nothing would prove success."""

from __future__ import annotations

from collections.abc import Iterator

from remediator.authoring.lint import Context, Rule
from remediator.playbooks.diagnostics import Diagnostic


class NoVerify(Rule):
    """Playbooks that change something and have no check in ``verify``."""

    id = "no-verify"
    what = "A playbook changes something, and has no check that would prove that it helped."
    why = "Without proof no run succeeds: every one goes to people, even if the service is well."
    mend = "add checks under verify, such as a probe of the service and a PromQL expression"

    def check(self, context: Context) -> Iterator[Diagnostic]:
        for playbook in context.playbooks:
            if context.changes(playbook) and not playbook.verify.checks:
                yield self.at(context, playbook, ("verify",), "nothing would prove that the steps helped", key=True)
