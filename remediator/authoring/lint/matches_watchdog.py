"""``matches-watchdog``: a playbook asks for the alert that always fires."""

from __future__ import annotations

from collections.abc import Iterator

from remediator.authoring.lint import Context, Rule
from remediator.pipeline.match import possible
from remediator.playbooks.diagnostics import Diagnostic


class MatchesWatchdog(Rule):
    """Playbooks whose conditions on alertname the Watchdog fulfils."""

    id = "matches-watchdog"
    what = "The matcher on alertname also matches the Watchdog alert, which always fires."
    why = "The Watchdog only proves that alerts arrive. It is never matched, so this playbook may never run."
    mend = "name the intended alerts, or exclude the Watchdog, for example alertname!=Watchdog"

    def check(self, context: Context) -> Iterator[Diagnostic]:
        for playbook in context.playbooks:
            if possible(playbook, "alertname", context.watchdog):
                message = f"this could take {context.watchdog}, the alert that always fires"
                yield self.at(context, playbook, ("match",), message, key=True)
