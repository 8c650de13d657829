"""Every file of this repository that a document names exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [path for path in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")) if path.name != "CHANGELOG.md"]
"""All documents of this version. The change log also names files of older versions."""

_PATH = re.compile(r"(?<![\w/.:~-])(?:(?:tests|bench|demo)/[\w./-]*\w|remediator/[\w/.-]+\.py)\b")
"""Of ``remediator/…``, only modules: images, Secrets and folders of ``deploy/`` have this prefix too."""
_WRITTEN_BY_THE_READER = {"tests/extensions/actions/test_marker.py"}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_file_that_a_page_names_exists(page: Path) -> None:
    named = set(_PATH.findall(page.read_text(encoding="utf-8"))) - _WRITTEN_BY_THE_READER
    assert sorted(name for name in named if not (ROOT / name).exists()) == []


def test_paths_are_found() -> None:
    """The pattern finds the files that the page of the promises names."""
    found = _PATH.findall((ROOT / "docs/promises.md").read_text(encoding="utf-8"))
    assert {"remediator/pipeline/receive.py", "tests/storage/test_contract.py"} <= {*found}
