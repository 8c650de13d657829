"""Lint reports a playbook whose steps no target supports, but accepts one that some targets support."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.authoring.lint.mistakes import WORLD, look

BASE = (WORLD / "redis-down.yaml").read_text()
PRUNE = BASE[BASE.index("  - id: prune") : BASE.index("verify:")]
RESTART = BASE[BASE.index("  - id: restart") : BASE.index("  - id: prune")]


def found(folder: Path, text: str) -> set[str]:
    """Return the rules about bindings that lint reports for a playbook."""
    (folder / "redis-down.yaml").write_text(text)
    return {item.rule for item in look(folder).diagnostics} & {"not-possible", "never-acts", "never-proved"}


@pytest.mark.parametrize(
    ("text", "rules"),
    [
        (BASE, {"not-possible"}),
        (BASE.replace(RESTART, ""), {"not-possible", "never-acts"}),
        (
            BASE.replace(RESTART, "").replace(
                "    action: files.prune", "    when: evidence.ping.facts.state == 'down'\n    action: files.prune"
            ),
            {"not-possible", "never-acts"},
        ),
    ],
    ids=["one step of two", "the only step", "the only step, with a condition"],
)
def test_a_playbook_without_a_supported_step_is_reported(tmp_path: Path, text: str, rules: set[str]) -> None:
    """Lint reports a playbook only if its target supports none of its steps."""
    assert found(tmp_path, text) == rules


def test_a_step_that_needs_evidence_of_another_target_is_never_due(tmp_path: Path) -> None:
    """A step that depends on evidence which the target cannot give is never due and needs no proof."""
    text = BASE.replace("target: redis", "target: app").replace(PRUNE, "")
    assert found(tmp_path, text) == {"not-possible"}
    other = text.replace(
        """    when: "evidence.ping.facts.state == 'down'"\n    on_failure: next""", "    on_failure: next"
    )
    assert other != text
    assert found(tmp_path, other) == {"not-possible", "never-proved"}


def test_a_target_from_a_parameter_can_be_any_service(tmp_path: Path) -> None:
    """If the target is a parameter, one service that supports a step is enough."""
    text = (
        BASE.replace("target: redis", "target: ${service}")
        .replace(PRUNE, "")
        .replace("parameters:\n", "parameters:\n  service: {label: service, type: service}\n")
    )
    assert found(tmp_path, text) == set()
