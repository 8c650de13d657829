"""Common errors in playbooks: lint reports each at its place, with a message and a hint."""

from __future__ import annotations

import pytest

from remediator.authoring.lint.errors import ERRORS
from remediator.authoring.lint.runner import RULES
from remediator.playbooks.diagnostics import Severity
from tests.authoring.lint.mistakes import FOLDER, WORLD, cases, counts, look, said

CASES = cases()
SEVERAL = {"many-at-once"}
"""Cases without a single rule."""
ELSEWHERE = {
    *("unreadable", "too-big", "dependency-cycle", "missing-right", "no-test", "yaml-syntax"),
    *("unknown-command", "unknown-request", "unknown-metric"),
    *("readable-secret", "short-token", "writable-settings"),
}
"""IDs that other tests cover."""


@pytest.mark.parametrize("case", CASES)
def test_an_error_is_reported_with_its_place(case: str) -> None:
    """Place, ID, message and hint of every diagnostic are the reviewed ones."""
    assert said(case) == (FOLDER / case / "expected.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("case", CASES)
def test_an_error_is_reported_with_its_id(case: str) -> None:
    """The diagnostic has the ID in the name of its case, a place and a message."""
    found = [item for item in look(FOLDER / case).diagnostics if counts(case, item)]
    assert found
    assert case in SEVERAL or any(case.startswith(item.rule) for item in found)
    for item in found:
        assert item.line or item.rule == "empty-file"
        assert item.message[0] != " "
        assert not item.message.endswith(".")


def test_every_id_has_a_case() -> None:
    """There are at least a hundred cases, and every error ID and rule has one."""
    assert len(CASES) >= 100
    ids = {*ERRORS, *(rule.id for rule in RULES)} - ELSEWHERE
    assert not {name for name in ids if not any(case.startswith(name) for case in CASES)}


def test_a_valid_playbook_has_no_diagnostics() -> None:
    """Lint reports nothing for the valid playbook from which the cases are derived, and the playbook loads."""
    report = look(WORLD / "redis-down.yaml")
    assert [item for item in report.diagnostics if item.severity is not Severity.INFO] == []
    assert report.playbooks == 1


def test_all_errors_of_a_file_are_reported_at_once() -> None:
    """One run of lint reports all errors of a file."""
    found = look(FOLDER / "many-at-once").diagnostics
    assert len([item for item in found if item.severity is Severity.ERROR]) == 6
