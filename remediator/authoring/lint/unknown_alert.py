"""``unknown-alert``: no rule file defines an alert of this name."""

from __future__ import annotations

from collections.abc import Iterator

from remediator.authoring.lint import Context, Rule
from remediator.core.matchers import parse_matcher
from remediator.playbooks.diagnostics import Diagnostic, did_you_mean
from remediator.playbooks.model import Playbook


class UnknownAlert(Rule):
    """Alertnames that playbooks ask for and no rule file defines."""

    id = "unknown-alert"
    what = "A playbook matches an alertname that no rule file defines."
    why = "The playbook never runs, and the error stays unnoticed until an incident."
    mend = "define the alert, or correct its name"

    def check(self, context: Context) -> Iterator[Diagnostic]:
        known = {alert.name for alert in context.alerts or ()}
        for playbook in context.playbooks if context.alerts is not None else ():
            for at, name in enumerate(playbook.match.alertname):
                if name not in known:
                    message = f"no rule defines the alert {name!r}"
                    hint = did_you_mean(name, known)
                    hint = hint if hint.startswith("did") else self.mend
                    yield self.at(context, playbook, ("match", "alertname", at), message, hint)
            yield from self._patterns(context, playbook, known)

    def _patterns(self, context: Context, playbook: Playbook, known: set[str]) -> Iterator[Diagnostic]:
        for at, text in enumerate(playbook.match.matchers):
            matcher = parse_matcher(text)
            if matcher.name == "alertname" and not any(matcher.accepts(name) for name in known):
                message = f"no rule defines an alert that {matcher} accepts"
                yield self.at(context, playbook, ("match", "matchers", at), message)
