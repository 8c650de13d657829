"""Each mutant still changes the code. ``make mutants`` itself takes too long for every change."""

from __future__ import annotations

import pytest

from demo.stack.settings import ROOT
from tests.mutants import MUTANTS, Mutant


@pytest.mark.parametrize("mutant", MUTANTS, ids=[mutant.name for mutant in MUTANTS])
def test_a_mutant_changes_one_place(mutant: Mutant) -> None:
    assert (ROOT / "remediator" / mutant.file).read_text(encoding="utf-8").count(mutant.text) == 1
    assert mutant.becomes != mutant.text
