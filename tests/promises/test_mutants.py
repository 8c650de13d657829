"""Each mutant still changes the code. ``make mutants`` itself takes too long for every change."""

from __future__ import annotations

import pytest

from demo.stack.settings import ROOT
from tests.mutants import MUTANTS, PAGE, Mutant, with_table


@pytest.mark.parametrize("mutant", MUTANTS, ids=[mutant.name for mutant in MUTANTS])
def test_a_mutant_changes_one_place(mutant: Mutant) -> None:
    """The text of each mutant occurs exactly once in its file, and the mutant changes it."""
    assert (ROOT / "remediator" / mutant.file).read_text(encoding="utf-8").count(mutant.text) == 1
    assert mutant.becomes != mutant.text


@pytest.mark.parametrize("mutant", MUTANTS, ids=[mutant.name for mutant in MUTANTS])
def test_the_tests_of_a_mutant_exist(mutant: Mutant) -> None:
    assert [test for test in mutant.tests if not (ROOT / test).exists()] == []


def test_the_table_is_current() -> None:
    """The table of docs/reliability.md is current. If this fails: python -m tests.mutants --table"""
    page = PAGE.read_text(encoding="utf-8")
    assert "\n| 1 | the webhook answers before the commit |" in page
    assert page == with_table(page)
