"""Rules about parameters: where label values enter a playbook."""

from __future__ import annotations

import re
from collections.abc import Iterator

from remediator.authoring.lint import LintContext, Rule
from remediator.playbooks import cel
from remediator.playbooks.diagnostics import Diagnostic
from remediator.playbooks.model import Playbook
from remediator.playbooks.parsing.nodes import Path, walk
from remediator.playbooks.references import references

_TEMPLATE = re.compile(r"\{\{.*?\}\}|\{%.*?%\}")
_REFERENCE = re.compile(r"(?<!\$)\$\{[^{}]*\}")
_SUBSTITUTED = ("with", "guards")
"""Parameters are substituted in values below these keys."""


class NotATemplate(Rule):
    """A text contains {{ … }}, or ${…} where parameters are not substituted."""

    id = "not-a-template"
    why = "The text is sent or used unchanged. Only with, guards, target and escalate.message substitute ${name}."
    fix = "declare a parameter and use it as ${name} under with; write plain text elsewhere"

    def check(self, context: LintContext) -> Iterator[Diagnostic]:
        for playbook in context.playbooks:
            for path, scalar in walk(context.loaded.documents[playbook.name]):
                found = self._placeholder(path, scalar.value) if isinstance(scalar.value, str) else None
                if found is not None:
                    message = f"{found.group()} is not substituted here"
                    yield self.at_node(scalar, message, offset=found.start() + 1)

    def _placeholder(self, path: Path, text: str) -> re.Match[str] | None:
        template = _TEMPLATE.search(text)
        if (
            template is not None
            or path in (("target",), ("escalate", "message"))
            or any(step in _SUBSTITUTED for step in path)
        ):
            return template
        return _REFERENCE.search(text)


class UnboundedParameter(Rule):
    """A label value goes into an action, through a parameter with neither pattern nor enum."""

    id = "unbounded-parameter"
    why = "Anyone who can set the label chooses the target of the action, within the limits of the action."
    fix = "add a pattern or an enum that allows only the values you need"

    def check(self, context: LintContext) -> Iterator[Diagnostic]:
        for playbook in context.playbooks:
            calls = [call for call in context.subject(playbook).calls if call.kind == "action"]
            used = {name for call in calls for name in references(call.given)}
            for name, declared in playbook.parameters.items():
                bounded = declared.pattern is not None or declared.enum is not None
                if name in used and declared.label is not None and declared.type == "string" and not bounded:
                    message = f"the parameter {name!r} passes any value of the label {declared.label!r} to an action"
                    yield self.at(context, playbook, ("parameters", name), message, key=True)


class UnusedParameter(Rule):
    """A parameter is declared but not used."""

    id = "unused-parameter"
    why = "If its label is required, alerts without the label are escalated for no reason; or a ${name} is missing."
    fix = "use it, or remove it"

    def check(self, context: LintContext) -> Iterator[Diagnostic]:
        for playbook in context.playbooks:
            used = set(self._used(playbook))
            for name in playbook.parameters:
                if name not in used:
                    message = f"the parameter {name!r} is not used"
                    yield self.at(context, playbook, ("parameters", name), message, key=True)

    def _used(self, playbook: Playbook) -> Iterator[str]:
        yield from references(playbook.target)
        yield from references(playbook.escalate.message)
        yield from references(playbook.guards.settings)
        for part in (playbook.diagnose, playbook.verify.checks, playbook.steps):
            for item in part:
                yield from references(item.with_)
        for step in playbook.steps:
            yield from references(step.undo.with_ if step.undo is not None else {})
            for reference in cel.compile(step.when).references if step.when is not None else ():
                if reference.root == "params":  # without a name, the condition may use every parameter
                    yield from playbook.parameters if reference.name is None else (reference.name,)
