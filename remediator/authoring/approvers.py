"""The people who may approve a playbook, according to the settings and the people file."""

from __future__ import annotations

from collections.abc import Iterator

from remediator.config import Config
from remediator.core.approval import Permission, is_member
from remediator.core.identity import People
from remediator.playbooks.model import Playbook


def approvers_of(playbook: Playbook, people: People, config: Config) -> Iterator[str]:
    """Yield the IDs of the people of the people file who may approve a playbook, and can show who they are.

    Without an identity provider, a proxy that signs people in, or personal links, that needs a token or a chat.
    """
    access = config.access
    known_otherwise = access.oidc is not None or access.proxy is not None or config.approvals.allow_link_only
    for who, entry in people.people.items():
        person = people.by_id(who, "people file")
        can_show = known_otherwise or bool(entry.tokens or entry.slack or entry.telegram)
        if person is None or not can_show:
            continue
        if person.may(Permission.DECIDE) and is_member(person, playbook.approval.groups):
            yield who
