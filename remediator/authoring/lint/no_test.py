"""``no-test``: a playbook has no test beside it."""

from __future__ import annotations

from collections.abc import Iterator

from remediator.authoring.lint import Context, Rule
from remediator.playbooks.diagnostics import Diagnostic, Severity


class NoTest(Rule):
    """Playbooks without a ``<name>.test.yaml`` in their folder."""

    id = "no-test"
    severity = Severity.INFO
    what = "There is no <name>.test.yaml beside the playbook."
    why = "The first run is then in production."
    mend = "write which result you expect for which alert, and run remediator test"

    def check(self, context: Context) -> Iterator[Diagnostic]:
        for playbook in context.playbooks:
            if playbook.name not in context.tests:
                yield self.at(context, playbook, ("name",), f"there is no {playbook.name}.test.yaml beside it")
