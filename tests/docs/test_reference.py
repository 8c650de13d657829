"""The generated reference pages are current and complete."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from remediator.audit import Kind
from remediator.cli.main import VARIABLES
from remediator.playbooks import cel
from tests.support.cel_reference import FUNCTIONS, NAMES, SAMPLE
from tests.support.file_reference import FOLDER, PAGES, kinds
from tests.support.man_page import PAGE, man_page
from tests.support.servers import require

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_current(name: str) -> None:
    """Each reference page is current. If this fails: python -m tests.support.file_reference"""
    assert (FOLDER / name).read_text(encoding="utf-8") == PAGES[name]()


def test_no_page_is_left_over() -> None:
    """The folder has only generated pages."""
    assert {path.name for path in FOLDER.glob("*.md")} == set(PAGES)


def test_every_kind_of_audit_entry_is_described() -> None:
    """Each kind has a description. If this fails: write a text below the new value of ``Kind``."""
    found = kinds()
    assert found.keys() == {kind.value for kind in Kind}
    assert [kind for kind, text in found.items() if not text] == []


def test_every_environment_variable_is_described() -> None:
    """Each environment variable has a description.

    If this fails: add the variable to ``VARIABLES`` in ``remediator/cli/main.py``.
    """
    internal = {"REMEDIATOR_CRASH_AT"}  # used only by tests of crashes
    text = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "remediator").rglob("*.py"))
    assert set(re.findall(r"\"(REMEDIATOR_[A-Z_]+)\"", text)) - internal <= set(VARIABLES)


def test_the_manual_page_is_current_and_valid_roff() -> None:
    """The manual page is current and valid roff. If this fails: python -m tests.support.man_page"""
    assert PAGE.read_text(encoding="utf-8") == man_page()
    checked = subprocess.run(
        [require("groff"), "-man", "-Tutf8", "-ww", "-z", str(PAGE)], capture_output=True, text=True, check=True
    )
    assert checked.stderr == ""


EXAMPLES = [example for *_, example in NAMES.values()] + [
    example for rows in FUNCTIONS.values() for _, example in rows.values()
]


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_example_of_a_condition_holds(example: str) -> None:
    """Every example gives the documented result, so each operator and function exists with the stated meaning."""
    assert cel.compile(example).evaluate(SAMPLE) is True


def test_every_root_of_conditions_is_described() -> None:
    """Every variable of conditions has a description."""
    assert set(NAMES) == set(cel.ROOTS)


def test_links_between_pages_lead_to_a_heading() -> None:
    """A link from a type leads to an existing heading that describes it."""
    for path in FOLDER.glob("*.md"):
        page = path.read_text(encoding="utf-8")
        headings = {
            heading.lower().replace(" ", "-").replace(".", "")
            for heading in re.findall(r"^## (.*)$", page, re.MULTILINE)
        }
        assert set(re.findall(r"\]\(#([^)]+)\)", page)) <= headings, path.name
