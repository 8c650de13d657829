"""``about_target``: act only for an alert that is about the target."""

from __future__ import annotations

from sqlalchemy import Connection

from remediator.core.run import EpisodeKind
from remediator.extensions.guards.base import ALLOW, Guard, GuardAnswer, GuardInput, Verdict, manual_start
from remediator.playbooks.target_identity import Relation, compare
from remediator.storage.repositories import discovered


class AboutTarget(Guard):
    """Block an alert about another target, and an alert whose labels name no target.

    Planning escalates such a run. The guard blocks it here if the inventory changed since, or if an alert joined the
    run later. An approval cannot override it. A playbook with ``about: {any: REASON}`` is not checked. A run that a
    person started is not checked either, because the person named the target.

    A discovered target is blocked while this replica does not yet know the targets of the last lookup.
    """

    name = "about_target"
    reasons = frozenset({"not_about_target", "no_identifying_label", "targets_changed"})

    def evaluate_stored(self, connection: Connection, guard_input: GuardInput) -> Verdict:
        inventory, name = guard_input.inventory, guard_input.service.name
        source = inventory.source_of(name)
        if not source or discovered.versions(connection).get(source, "") == inventory.version_of(source):
            return ALLOW
        text = f"the targets of discovery {source} changed a moment ago; {name} may no longer be one of these targets"
        return Verdict(GuardAnswer.BLOCK, "targets_changed", text, {"target": name, "discovery": source})

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
