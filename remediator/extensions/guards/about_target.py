"""``about_target``: act only for an alert that is about the target."""

from __future__ import annotations

from remediator.core.run import EpisodeKind
from remediator.extensions.clientset import ClientSet
from remediator.extensions.guards.base import ALLOW, Guard, GuardAnswer, GuardInput, Verdict, manual_start
from remediator.playbooks.target_identity import Relation, compare


class AboutTarget(Guard):
    """Block an alert that is about something else, and an alert of which no label says what it is about.

    Planning escalates such a run. The guard blocks it here if the inventory changed since, or if an alert joined the
    run later. An approval cannot override it. A playbook with ``about: {any: REASON}`` is not checked. Neither is the
    target of a run that a person started, because the person named it.
    """

    name = "about_target"
    reasons = frozenset({"not_about_target", "no_identifying_label"})

    def __init__(self, clients: ClientSet) -> None:
        """Use the guard input; no clients are needed."""

    async def evaluate_live(self, guard_input: GuardInput) -> Verdict:
        if guard_input.playbook.about_any is not None:
            return ALLOW
        for episode in guard_input.episodes:
            if episode.kind is EpisodeKind.MANUAL:
                continue  # the person named the target
            found = compare(episode.labels, guard_input.service)
            inputs = {"alert": dict(episode.labels), "target": guard_input.service.name}
            if found.relation is Relation.OTHER:
                return Verdict(GuardAnswer.BLOCK, "not_about_target", found.text, inputs)
            if found.relation is Relation.UNKNOWN:
                return Verdict(GuardAnswer.BLOCK, "no_identifying_label", found.text, inputs)
        only_manual = all(episode.kind is EpisodeKind.MANUAL for episode in guard_input.episodes)
        manual = manual_start(guard_input, "the person named the target") if only_manual else None
        return manual or ALLOW
