"""``unknown-label``: the alerts that a playbook takes do not have this label."""

from __future__ import annotations

import re
from collections.abc import Iterator

from remediator.authoring.lint import AlertRule, Context, Rule
from remediator.core.matchers import parse_matcher
from remediator.pipeline.match import possible
from remediator.playbooks.diagnostics import Diagnostic, did_you_mean
from remediator.playbooks.model import Playbook

_ALWAYS = frozenset({"alertname", "job", "instance"})
"""Of every alert, or of every target that is scraped."""
_WORD = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_STRING = re.compile(r"\"(?:\\.|[^\"\\])*\"|'(?:\\.|[^'\\])*'|`[^`]*`")


class UnknownLabel(Rule):
    """Labels in matchers and parameters that no rule for the playbook's alerts sets or speaks of."""

    id = "unknown-label"
    what = "A matcher or parameter uses a label that no rule for these alerts sets or mentions."
    why = "A matcher on a missing label never matches. A parameter from a missing label escalates every run."
    mend = "add the label to the rule in the rule files, or correct its name"

    def check(self, context: Context) -> Iterator[Diagnostic]:
        for playbook in context.playbooks if context.alerts is not None else ():
            rules = [rule for rule in context.alerts or () if possible(playbook, "alertname", rule.name)]
            if rules:
                yield from self._strangers(context, playbook, rules)

    def _strangers(self, context: Context, playbook: Playbook, rules: list[AlertRule]) -> Iterator[Diagnostic]:
        known = _ALWAYS.union(*(produced(rule) for rule in rules))
        alerts = ", ".join(sorted({rule.name for rule in rules})[:3])
        for at, text in enumerate(playbook.match.matchers):
            name = parse_matcher(text).name
            if name not in known:
                message = f"no rule for {alerts} sets or mentions the label {name!r}"
                yield self.at(context, playbook, ("match", "matchers", at), message, _hint(name, known, self.mend))
        for name, parameter in playbook.parameters.items():
            label = parameter.label
            if label is not None and label not in known:
                message = f"no rule for {alerts} sets or mentions the label {label!r}"
                path = ("parameters", name, "label")
                yield self.at(context, playbook, path, message, _hint(label, known, self.mend))


def _hint(name: str, known: frozenset[str], mend: str) -> str:
    near = did_you_mean(name, known)
    return near if near.startswith("did") else mend


def produced(rule: AlertRule) -> frozenset[str]:
    """The labels that a rule sets, and every word of its expression, of which some are labels that it keeps."""
    return frozenset(rule.labels) | frozenset(_WORD.findall(_STRING.sub('""', rule.expression)))
