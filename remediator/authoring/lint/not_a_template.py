"""``not-a-template``: something looks as if it were filled in, and is not."""

from __future__ import annotations

import re
from collections.abc import Iterator

from remediator.authoring.lint import Context, Rule
from remediator.playbooks.diagnostics import Diagnostic
from remediator.playbooks.parsing.nodes import Path, walk

_TEMPLATE = re.compile(r"\{\{.*?\}\}|\{%.*?%\}")
_REFERENCE = re.compile(r"(?<!\$)\$\{[^{}]*\}")
_FILLED = ("with", "guards")
"""Under these keys parameters are put in."""


class NotATemplate(Rule):
    """Texts with ``{{ … }}``, and with ``${…}`` where parameters are not put in."""

    id = "not-a-template"
    what = "A text contains {{ … }}, or ${…} where parameters are not substituted."
    why = "The text is sent or used unchanged. Only with, guards and target substitute parameters, as ${name}."
    mend = "declare a parameter and use it as ${name} under with; write plain text elsewhere"

    def check(self, context: Context) -> Iterator[Diagnostic]:
        for playbook in context.playbooks:
            for path, scalar in walk(context.read.documents[playbook.name]):
                found = _unfilled(path, str(scalar.value)) if isinstance(scalar.value, str) else None
                if found is not None:
                    message = f"{found.group()} is not filled in here"
                    yield scalar.finding(self.id, message, self.mend, self.severity, found.start() + 1)


def _unfilled(path: Path, text: str) -> re.Match[str] | None:
    template = _TEMPLATE.search(text)
    if template is not None or path == ("target",) or any(step in _FILLED for step in path):
        return template
    return _REFERENCE.search(text)
