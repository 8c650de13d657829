"""``unbounded-parameter``: any text from a label goes into a call."""

from __future__ import annotations

from collections.abc import Iterator

from remediator.authoring.lint import Context, Rule
from remediator.playbooks.diagnostics import Diagnostic
from remediator.playbooks.parameters import references


class UnboundedParameter(Rule):
    """Strings from labels, with neither pattern nor enum, that go into the parameters of an action."""

    id = "unbounded-parameter"
    what = "A label value goes into an action, through a parameter with neither pattern nor enum."
    why = "Anyone who can set the label chooses what the action works on, within the limits of the action."
    mend = "add a pattern or an enum that allows only the values you need"

    def check(self, context: Context) -> Iterator[Diagnostic]:
        for playbook in context.playbooks:
            calls = [call for call in context.calls(playbook) if call.kind == "action"]
            used = {name for call in calls for name in references(call.given)}
            for name, declared in playbook.parameters.items():
                bounded = declared.pattern is not None or declared.enum is not None
                if name in used and declared.label is not None and declared.type == "string" and not bounded:
                    message = f"the parameter {name!r} takes any text from the label {declared.label!r} into an action"
                    yield self.at(context, playbook, ("parameters", name), message, key=True)
