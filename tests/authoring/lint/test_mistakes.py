"""A hundred and more mistakes that people make: each is caught, at its line, with a sentence that helps."""

from __future__ import annotations

import pytest

from remediator.authoring.lint.errors import ERRORS
from remediator.authoring.lint.runner import RULES
from remediator.playbooks.diagnostics import Severity
from tests.authoring.lint.mistakes import FOLDER, WORLD, cases, counts, look, said

CASES = cases()
SEVERAL = {"many-at-once"}
"""Cases of no rule in particular."""
ELSEWHERE = {"unreadable", "too-big", "dependency-cycle", "no-test", "yaml-syntax"}
"""Ids that other tests bring about: they need no playbook, or every fixture has them."""


@pytest.mark.parametrize("case", CASES)
def test_a_mistake_is_caught_where_it_is(case: str) -> None:
    """Place, id, sentence and help are exactly those that were reviewed."""
    assert said(case) == (FOLDER / case / "expected.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("case", CASES)
def test_a_mistake_is_caught_for_what_it_is(case: str) -> None:
    """The diagnostic's id is the one that the case is named for, and it has a place and a sentence."""
    found = [item for item in look(FOLDER / case).diagnostics if counts(case, item)]
    assert found
    assert case in SEVERAL or any(case.startswith(item.rule) for item in found)
    for item in found:
        assert item.line or item.rule == "empty-file"
        assert item.message[0] != " "
        assert not item.message.endswith(".")


def test_there_are_a_hundred_of_them() -> None:
    """The acceptance asks for a hundred; every id of an error and every rule has at least one."""
    assert len(CASES) >= 100
    ids = {*ERRORS, *(rule.id for rule in RULES)} - ELSEWHERE
    assert not {name for name in ids if not any(case.startswith(name) for case in CASES)}


def test_without_a_mistake_there_is_nothing_to_say() -> None:
    """The playbook that all of them are made from is clean: no false alarm, and it can be used."""
    report = look(WORLD / "redis-down.yaml")
    assert [item for item in report.diagnostics if item.severity is not Severity.INFO] == []
    assert report.playbooks == 1


def test_all_mistakes_in_a_file_are_reported_at_once() -> None:
    """Nobody has to mend one mistake to see the next."""
    found = look(FOLDER / "many-at-once").diagnostics
    assert len([item for item in found if item.severity is Severity.ERROR]) == 6
