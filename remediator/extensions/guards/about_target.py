"""``about_target``: act only for an alert that is about the target."""

from __future__ import annotations

from remediator.extensions.clientset import ClientSet
from remediator.extensions.guards.base import ALLOW, Guard, GuardAnswer, GuardInput, Verdict
from remediator.playbooks.target_identity import Relation, compare


class AboutTarget(Guard):
    """Unknown when no label of the alert says that it is about the target; a person is asked then.

    An alert that is about something else never comes this far during planning. The guard blocks it here in case the
    inventory changed since. A playbook with ``about: {any: REASON}`` is not checked.
    """

    name = "about_target"
    reasons = frozenset({"not_about_target", "no_identifying_label"})

    def __init__(self, clients: ClientSet) -> None:
        """Use the guard input; no clients are needed."""

    async def evaluate_live(self, guard_input: GuardInput) -> Verdict:
        if guard_input.playbook.about_any is not None:
            return ALLOW
        for episode in guard_input.episodes:
            found = compare(episode.labels, guard_input.service)
            inputs = {"alert": dict(episode.labels), "target": guard_input.service.name}
            if found.relation is Relation.OTHER:
                return Verdict(GuardAnswer.BLOCK, "not_about_target", found.text, inputs)
            if found.relation is Relation.UNKNOWN:
                return Verdict(GuardAnswer.UNKNOWN, "no_identifying_label", found.text, inputs)
        return ALLOW
