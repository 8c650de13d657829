"""``unused-parameter``: a parameter that nothing uses."""

from __future__ import annotations

from collections.abc import Iterator

from remediator.authoring.lint import Context, Rule
from remediator.playbooks import cel
from remediator.playbooks.diagnostics import Diagnostic
from remediator.playbooks.model import Playbook
from remediator.playbooks.parameters import references


class UnusedParameter(Rule):
    """Declared parameters that stand nowhere in the playbook."""

    id = "unused-parameter"
    what = "A parameter is declared but not used."
    why = "If its label is required, alerts without the label are escalated for no reason; or a ${name} is missing."
    mend = "use it, or remove it"

    def check(self, context: Context) -> Iterator[Diagnostic]:
        for playbook in context.playbooks:
            used = set(_used(playbook))
            for name in playbook.parameters:
                if name not in used:
                    message = f"the parameter {name!r} is not used"
                    yield self.at(context, playbook, ("parameters", name), message, key=True)


def _used(playbook: Playbook) -> Iterator[str]:
    yield from references(playbook.target)
    yield from references(playbook.guards.settings)
    for part in (playbook.diagnose, playbook.verify.checks, playbook.steps):
        for item in part:
            yield from references(item.with_)
    for step in playbook.steps:
        yield from references(step.undo.with_ if step.undo is not None else {})
        if step.when is not None:
            found = cel.compile(step.when).references
            yield from (each.name for each in found if each.root == "params" and each.name is not None)
            if any(each.root == "params" and each.name is None for each in found):
                yield from playbook.parameters
