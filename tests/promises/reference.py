"""The lists of tests in docs/promises.md, from marks in the tests: ``python -m tests.promises.reference``."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "promises.md"
_MARK = re.compile(r"\bmark\.promise\((\d+)\)")
_LIST = re.compile(r"(<!-- tests (\d+) -->\n).*?(<!-- end -->)", re.DOTALL)


def files_by_promise() -> dict[int, list[str]]:
    """Return the test files of each promise, sorted, relative to the repository."""
    found: dict[int, list[str]] = {}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for number in sorted({int(number) for number in _MARK.findall(path.read_text(encoding="utf-8"))}):
            found.setdefault(number, []).append(path.relative_to(ROOT).as_posix())
    return found


def with_lists(page: str) -> str:
    """Return the page with the list of tests of every promise."""
    files = files_by_promise()

    def section(match: re.Match[str]) -> str:
        return f"{match[1]}{_sentence(files.get(int(match[2]), []))}\n{match[3]}"

    return _LIST.sub(section, page)


def _sentence(files: list[str]) -> str:
    if not files:
        return "Tests: none yet."
    text = "Tests: " + ", ".join(f"`{file}`" for file in files) + "."
    return textwrap.fill(text, 118, break_long_words=False, break_on_hyphens=False)


if __name__ == "__main__":
    PAGE.write_text(with_lists(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
