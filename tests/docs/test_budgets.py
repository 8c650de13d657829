"""The results of the benches have every goal, and the page about performance has the times of the results."""

from __future__ import annotations

import operator
import re
from pathlib import Path

from bench.budgets import BUDGETS

ROOT = Path(__file__).parents[2]
RESULTS = (ROOT / "bench/RESULTS.md").read_text(encoding="utf-8")


def test_the_results_have_every_goal() -> None:
    """The results have every goal of `bench/budgets.py`, in its order. If this fails: make bench"""
    signs = {operator.ge: "≥", operator.le: "≤"}
    rows = re.findall(r"^\| (.+?) \| ([≥≤] [\d,.]+) \|", RESULTS, re.MULTILINE)
    assert rows == [(each.what, f"{signs[each.meets]} {each.goal:,g}") for each in BUDGETS]


def test_the_times_of_a_run_are_those_of_the_results() -> None:
    """The list on the page has the times of `bench.engine`. If this fails: copy them from `bench/RESULTS.md`."""
    page = (ROOT / "docs/explanation/performance.md").read_text(encoding="utf-8")
    listed = [int(number.replace(",", "")) for number in re.findall(r"^ *([\d,]+) µs  ", page, re.MULTILINE)]
    measured = re.findall(r"`microseconds_after_receipt\.\w+` \| (\d+) \|", RESULTS)
    assert listed == [0, *(int(number) for number in measured)]
