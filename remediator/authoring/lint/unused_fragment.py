"""``unused-fragment``: a fragment that no playbook asks for."""

from __future__ import annotations

from collections.abc import Iterator

from remediator.authoring.lint import Context, Rule
from remediator.playbooks.diagnostics import Diagnostic, Severity
from remediator.playbooks.parsing.nodes import Node, walk


class UnusedFragment(Rule):
    """Fragments that no file's ``use`` or ``include`` names."""

    id = "unused-fragment"
    severity = Severity.INFO
    what = "No playbook uses or includes this fragment."
    why = "A change to the fragment changes no playbook."
    mend = "use it, or remove it"

    def check(self, context: Context) -> Iterator[Diagnostic]:
        used = {name for root in context.read.roots for name in _named(root)}
        for name, fragment in context.read.fragments.items():
            if name not in used:
                place = fragment.entries["name"].value
                yield place.finding(self.id, f"nothing uses the fragment {name!r}", self.mend, self.severity)


def _named(root: Node) -> Iterator[str]:
    for path, scalar in walk(root):
        if path[0] == "use" or path[-1] == "include":
            yield str(scalar.value)
