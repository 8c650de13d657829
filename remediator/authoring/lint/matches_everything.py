"""``matches-everything``: a playbook takes nearly every alert there is."""

from __future__ import annotations

from collections.abc import Iterator

from remediator.authoring.lint import Context, Rule
from remediator.pipeline.match import holds
from remediator.playbooks.diagnostics import Diagnostic

_ANY = {"alertname": "AnythingAtAll_7f3a"}
"""The labels of an alert that nobody has thought of."""


class MatchesEverything(Rule):
    """Playbooks that an alert of an unheard-of name, without any other label, would start."""

    id = "matches-everything"
    what = "A playbook matches an alert with an unknown name and no other labels."
    why = "The remedy for one fault then runs for every other fault too."
    mend = "name the alerts, for example alertname: RedisDown"

    def check(self, context: Context) -> Iterator[Diagnostic]:
        for playbook in context.playbooks:
            if holds(playbook, _ANY):
                yield self.at(context, playbook, ("match",), "this takes any alert whatever", key=True)
