"""Who may approve a playbook, as far as the people file says."""

from __future__ import annotations

from collections.abc import Iterator

from remediator.core.approval import Permission, is_member
from remediator.core.identity import People
from remediator.playbooks.model import Playbook


def approvers_of(playbook: Playbook, people: People) -> Iterator[str]:
    """Yield the IDs of the people of the people file who may approve a playbook."""
    for who in people.people:
        person = people.by_id(who, "people file")
        if person is not None and person.may(Permission.DECIDE) and is_member(person, playbook.approval.groups):
            yield who
