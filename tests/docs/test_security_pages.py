"""The pages about security name existing files and tests, and cover every chapter of the standard."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("docs/security/asvs.md", "docs/security/review.md", "docs/security/threat-model.md", "SECURITY.md")
_PATH = re.compile(r"`((?:tests|docs|deploy|remediator|alerting)/[\w./-]+|[\w-]+\.(?:md|toml|yml)|Dockerfile)`")
_TEST = re.compile(r"`(test_\w+)(?:\.py)?`")


@pytest.mark.parametrize("page", PAGES)
def test_every_file_that_a_page_names_exists(page: str) -> None:
    """Every file that a page names exists."""
    named = set(_PATH.findall((ROOT / page).read_text(encoding="utf-8")))
    assert not {each for each in named if not (ROOT / each.rstrip("/")).exists()}


@pytest.mark.parametrize("page", PAGES)
def test_every_test_that_a_page_names_exists(page: str) -> None:
    """Every test that a page names exists as a file or a function."""
    code = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    files = {path.stem for path in (ROOT / "tests").rglob("test_*.py")}
    named = set(_TEST.findall((ROOT / page).read_text(encoding="utf-8")))
    assert not {each for each in named if each not in files and f"def {each}(" not in code}


def test_every_row_of_the_standard_says_why() -> None:
    """Each requirement that is met has evidence, and each other one has a reason."""
    text = (ROOT / "docs/security/asvs.md").read_text(encoding="utf-8")
    rows = [line.strip("|").split("|") for line in text.splitlines() if re.match(r"\| \d", line)]
    assert {number.strip().split(".")[0] for number, *_ in rows} == {str(each) for each in range(1, 15)}
    for number, state, where, evidence in rows:
        assert state.strip() in ("met", "outside", "none", "open"), number
        assert where.strip(), number
        assert evidence.strip() or state.strip() != "met", number
