"""``no-escalation``: nobody would be told."""

from __future__ import annotations

from collections.abc import Iterator

from remediator.authoring.lint import Context, Rule
from remediator.playbooks.diagnostics import Diagnostic
from remediator.playbooks.model import Playbook


class NoEscalation(Rule):
    """Playbooks without ``escalate.to`` whose target has no owner."""

    id = "no-escalation"
    what = "A playbook names no channel to escalate to, and its target has no owner in the inventory."
    why = "When the remedy fails, only the log knows."
    mend = "name a channel under escalate.to, or the service's owner in the inventory"

    def check(self, context: Context) -> Iterator[Diagnostic]:
        for playbook in context.playbooks:
            if not playbook.escalate.to and not _owned(context, playbook):
                yield self.at(context, playbook, ("escalate",), "nobody is told when this fails", key=True)


def _owned(context: Context, playbook: Playbook) -> bool:
    if context.inventory is None:
        return False
    if playbook.target in context.inventory:
        return bool(context.inventory.services[playbook.target].owner)
    return all(service.owner for service in context.inventory.services.values())
