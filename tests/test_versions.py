"""A run keeps the version of its playbook: what is stored of one is read back as the very same."""

from __future__ import annotations

import json

import pytest
import yaml

from remediator.playbook import Playbook
from tests.servers.remediator import PLAYBOOK, ROOT

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
SHIPPED = [yaml.safe_load(path.read_text()) for path in sorted((ROOT / "playbooks").glob("*.yaml"))]
BOOKS = [content for content in (PLAYBOOK, SERVICE, *SHIPPED) if content["kind"] == "Playbook"]


@pytest.mark.parametrize("content", BOOKS, ids=lambda content: content["name"])
def test_a_stored_playbook_is_read_back_as_the_same_version(content: dict[str, object]) -> None:
    """Dumped as the store keeps it and read again, it has the same hash."""
    playbook = Playbook.model_validate(content)
    stored = json.dumps(playbook.model_dump(mode="json", by_alias=True, exclude_unset=True))

    assert Playbook.model_validate(json.loads(stored)).content_hash == playbook.content_hash
