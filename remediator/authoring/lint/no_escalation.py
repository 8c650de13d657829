"""``no-escalation``: nobody would be told."""

from __future__ import annotations

from collections.abc import Iterator

from remediator.authoring.lint import Context, Rule
from remediator.playbooks.diagnostics import Diagnostic
from remediator.playbooks.model import Playbook


class NoEscalation(Rule):
    """Playbooks without ``escalate.to`` whose target has no owner."""

    id = "no-escalation"
    what = "A playbook has no channel under escalate.to, and its target has no owner in the inventory."
    why = "When the remedy fails, only the log records it and no person is notified."
    mend = "add a channel to escalate.to, or an owner to the service in the inventory"

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
