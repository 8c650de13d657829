"""A run keeps the version of its playbook: the stored version is read back unchanged."""

from __future__ import annotations

import json

import pytest

from remediator.extensions.registry import Registry
from remediator.playbooks.loader import load_playbooks
from remediator.playbooks.model import Playbook
from tests.support.servers.remediator import PLAYBOOK, ROOT

SERVICE = {
    **PLAYBOOK,
    "target": "${service}",
    "parameters": {
        "service": {"label": "service", "type": "service"},
        "limit": {"label": "limit", "type": "integer", "minimum": 1, "maximum": 9, "default": 3},
        "name": {"label": "name", "pattern": "[a-z]+", "max_length": 20, "default": "a"},
        "fixed": {"value": "5m"},
    },
}
BOOKS = (
    Playbook.model_validate(PLAYBOOK),
    Playbook.model_validate(SERVICE),
    *load_playbooks([ROOT / "playbooks"], Registry().catalogue(), None).playbooks,
)


@pytest.mark.parametrize("playbook", BOOKS, ids=lambda playbook: playbook.name)
def test_a_stored_playbook_is_read_back_as_the_same_version(playbook: Playbook) -> None:
    """After a round trip through the store, with merged fragments, the playbook has the same hash."""
    stored = json.dumps(playbook.model_dump(mode="json", by_alias=True, exclude_unset=True))

    assert Playbook.model_validate(json.loads(stored)).content_hash == playbook.content_hash
