"""The rehearsal of a playbook invents alert labels that its parameters accept."""

from __future__ import annotations

from typing import Any

import pytest

from remediator.authoring.rehearsal import example_labels
from remediator.playbooks.parameters import resolve
from tests.support.guard_history import INVENTORY, playbook


@pytest.mark.parametrize(
    "declared",
    [
        {"pattern": "worker-[a-z0-9-]{1,40}"},
        {"type": "integer", "minimum": 5},
        {"enum": ["blue", "green"]},
        {"type": "duration"},
        {},
    ],
)
def test_an_example_is_accepted_by_its_parameter(declared: dict[str, Any]) -> None:
    """Each invented label is a valid value of its parameter."""
    chosen = playbook("redis-down", "app", parameters={"which": {"label": "which", **declared}})
    labels = example_labels(chosen, INVENTORY)
    assert set(resolve(chosen, labels, INVENTORY)) == {"which"}


def test_a_label_without_a_known_example_is_left_out() -> None:
    """The rehearsal omits a label without a known example: a refused value would look like a defect of the playbook."""
    chosen = playbook("redis-down", "app", parameters={"which": {"label": "which", "pattern": "(a|b)-[0-9]{7}"}})
    assert "which" not in example_labels(chosen, INVENTORY)
