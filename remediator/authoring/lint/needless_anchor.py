"""``needless-anchor``: a pattern that is anchored twice."""

from __future__ import annotations

from collections.abc import Iterator

from remediator.authoring.lint import Context, Rule
from remediator.core.matchers import Operator, parse_matcher
from remediator.playbooks.diagnostics import Diagnostic, Severity


class NeedlessAnchor(Rule):
    """Regular expressions in matchers and parameters that begin with ``^`` or end with ``$``."""

    id = "needless-anchor"
    severity = Severity.INFO
    what = "A regular expression begins with ^ or ends with $."
    why = "Patterns always match the whole value. A reader may conclude that patterns without anchors do not."
    mend = "remove ^ and $"

    def check(self, context: Context) -> Iterator[Diagnostic]:
        for playbook in context.playbooks:
            for at, text in enumerate(playbook.match.matchers):
                matcher = parse_matcher(text)
                if matcher.operator in (Operator.MATCHES, Operator.NOT_MATCHES) and _anchored(matcher.value):
                    yield self.at(context, playbook, ("match", "matchers", at), f"{matcher.value!r} is anchored twice")
            for name, parameter in playbook.parameters.items():
                if parameter.pattern is not None and _anchored(parameter.pattern):
                    path = ("parameters", name, "pattern")
                    yield self.at(context, playbook, path, f"{parameter.pattern!r} is anchored twice")


def _anchored(pattern: str) -> bool:
    return pattern.startswith("^") or (pattern.endswith("$") and not pattern.endswith("\\$"))
