"""The table of faults for the shipped playbooks: its rules, and some of its rows on the real stack."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from demo.judge import record, table
from demo.judge.__main__ import chosen
from demo.judge.row import Judgement, Row
from demo.judge.rows import ROWS
from demo.judge.trial import judge
from demo.stack.settings import ROOT, Settings, StackError

_ALL = "JUDGE" in os.environ
"""Whether all rows run. `make test-long` runs the fast ones."""


def _marks(row: Row) -> list[pytest.MarkDecorator]:
    marks = [pytest.mark.judge, pytest.mark.long]
    if not row.fast and not _ALL:
        marks.append(pytest.mark.skip(reason="not one of the fast rows; JUDGE=1 runs all, as `make judge` does"))
    return marks


@pytest.mark.parametrize("row", [pytest.param(row, marks=_marks(row), id=f"{row.number}-{row.fault}") for row in ROWS])
def test_a_true_cause_is_named_without_harm(row: Row, local_stack: Settings) -> None:
    """For each row, the playbooks name a true cause and no wrong one, and harm nothing."""
    found = judge(local_stack, row)
    if found.not_run:
        pytest.skip(f"needs {found.not_run}")
    assert (found.harm, found.wrong, found.unnamed) == ([], (), False), found


def test_every_cause_of_a_row_is_one_of_a_shipped_playbook() -> None:
    """Every cause ID of a row exists in a shipped playbook, so a misspelt ID cannot pass."""
    known: set[str] = {"not-our-disk"}
    for path in (ROOT / "playbooks").glob("*.yaml"):
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        known |= {item["id"] for item in content.get("conclude", ()) if "id" in item}
    unknown = {
        cause: row.number for row in ROWS for cause in row.causes | row.causes_too | row.true_too if cause not in known
    }
    assert not unknown


def test_rows_are_unique() -> None:
    """No two rows have the same number and name. Variants of a fault share the number."""
    names = [(row.number, row.fault) for row in ROWS]
    assert len(set(names)) == len(names)


def test_rows_are_chosen_by_number() -> None:
    """Numbers select rows in the given order. No number selects all rows, and an unknown number is an error."""
    assert [row.number for row in chosen("44, 1")] == [44, 1]
    assert len(chosen("30")) == 3
    assert chosen("") == ROWS
    with pytest.raises(StackError, match="unknown row '99'"):
        chosen("1,99")


@pytest.mark.parametrize(
    ("found", "well"),
    [
        ({"named": ("redis-down: down",)}, True),
        ({"named": ("redis-down: down", "app-down: stopped")}, False),
        ({"named": ("redis-down: down",), "harm": ["3 of 1000 keys lost"]}, False),
    ],
)
def test_harm_and_wrong_causes_fail_the_judgement(found: dict[str, object], well: bool) -> None:
    """One wrong cause or any harm fails the judgement, even if the true cause is named."""
    row = replace(ROWS[0], causes=frozenset({"down"}), true_too=frozenset())
    assert table.passed([Judgement(row=row, **found)]) is well  # type: ignore[arg-type]


def test_three_rows_may_be_unnamed_and_no_more() -> None:
    """The judgement passes with at most three rows without a named cause."""
    row = replace(ROWS[0], causes=frozenset({"down"}))
    assert table.passed([Judgement(row=row)] * 3)
    assert not table.passed([Judgement(row=row)] * 4)


def test_a_row_that_was_not_run_says_what_it_needs() -> None:
    """A row that was not run shows what it needs, and does not count as a row without a named cause."""
    found = Judgement(row=ROWS[0], not_run="a Docker Engine")
    assert "not run: needs a Docker Engine" in table.cells(found)
    assert not found.unnamed


def test_writing_some_rows_keeps_other_rows_and_the_page_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Writing results replaces only the rows that were run, keeps the text around the table, and drops removed rows."""
    monkeypatch.setattr(record, "RESULTS", tmp_path / "results.json")
    monkeypatch.setattr(record, "DOCUMENT", tmp_path / "judgement.md")
    record.DOCUMENT.write_text(f"# By hand\n\n{record.BEGIN}old\n{record.END}\nAfter.\n")
    one, two = replace(ROWS[0], fault="one"), replace(ROWS[1], fault="two | pipes")
    record.write([Judgement(row=one, harm=["3 keys lost"]), Judgement(row=two)], (one, two))
    three = replace(ROWS[2], number=99, fault="three")
    record.write([Judgement(row=one, named=("redis-down: down",))], (one, two, three))
    text = record.DOCUMENT.read_text()
    assert text.startswith("# By hand\n") and text.endswith("After.\n") and "old" not in text
    assert "redis-down: down" in text and "3 keys lost" not in text and "two \\| pipes" in text
    assert "2 rows run, 0 not run; with harm: 0" in text and "Not judged yet: row 99, three." in text
    record.write([], (two,))
    assert "redis-down: down" not in record.DOCUMENT.read_text(), "a row that no longer exists"
