"""Modules and tests that docs/promises.md names exist."""

from __future__ import annotations

import re

from tests.promises.reference import PAGE, ROOT, files_by_promise, with_lists

PROMISES = range(1, 15)


def test_every_promise_has_a_section() -> None:
    """The sections have the numbers 1 to 14, and no test has a mark with another number."""
    numbers = [int(number) for number in re.findall(r"(?m)^## (\d+)\. ", PAGE.read_text(encoding="utf-8"))]

    assert numbers == list(PROMISES)
    assert set(files_by_promise()) <= set(PROMISES)


def test_the_readme_has_every_promise() -> None:
    """The list of the README has the numbers and names of the sections. A name may go on as a sentence."""
    listed = re.findall(r"(?m)^(\d+)\. \*\*(.+?)\.?\*\*", (ROOT / "README.md").read_text(encoding="utf-8"))
    sections = re.findall(r"(?m)^## (\d+)\. (.+)$", PAGE.read_text(encoding="utf-8"))

    assert listed == sections


def test_the_simulation_checks_the_promises_that_the_page_names() -> None:
    """docs/reliability.md names the promises of which the simulation checks invariants."""
    code = (ROOT / "tests/simulation/invariants.py").read_text(encoding="utf-8")
    checked = sorted({int(number) for number in re.findall(r"_say\((\d+),", code)} - {0})
    page = (ROOT / "docs/reliability.md").read_text(encoding="utf-8")
    named = re.search(r"checks invariants of promises ([\d, and]+)\.", page)

    assert named and [int(number) for number in re.findall(r"\d+", named[1])] == checked


def test_the_lists_of_tests_are_current() -> None:
    """The lists of tests are current. If this fails: python -m tests.promises.reference"""
    page = PAGE.read_text(encoding="utf-8")

    assert with_lists(page) == page


def test_every_module_on_the_page_exists() -> None:
    """Every file and folder of the package that the page names exists."""
    named = set(re.findall(r"`(remediator/[\w/.]+)`", PAGE.read_text(encoding="utf-8")))

    assert sorted(name for name in named if not (ROOT / name).exists()) == []


def test_every_promise_has_tests() -> None:
    """Every promise has a test, and the page does not say of any promise that it has none."""
    assert set(files_by_promise()) == set(PROMISES)
    assert "Tests: none yet." not in PAGE.read_text(encoding="utf-8")
