"""Build the documentation site: ``python -m tests.support.site [FOLDER]``; ``--llms`` writes docs/llms.txt."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
SETTINGS = ROOT / "zensical.toml"
_HEAD = """# remediator

> Runs known remedies for alerts of Alertmanager, with guards, approvals, verification and a tamper-evident audit log.

"""


def _walk(entries: list[Any], path: tuple[str, ...] = ()) -> dict[tuple[str, ...], str]:
    found: dict[tuple[str, ...], str] = {}
    for entry in entries:
        for title, value in entry.items():
            if isinstance(value, list):
                found |= _walk(value, (*path, title))
            else:
                found[(*path, title)] = value
    return found


def nav_pages() -> dict[tuple[str, ...], str]:
    """Return the page of each entry of the navigation, by the titles that lead to it."""
    return _walk(tomllib.loads(SETTINGS.read_text(encoding="utf-8"))["project"]["nav"])


def pages_without_nav() -> list[str]:
    """Return the pages that no entry of the navigation leads to."""
    docs = ROOT / "docs"
    return sorted({str(path.relative_to(docs)) for path in docs.rglob("*.md")} - set(nav_pages().values()))


def llms() -> str:
    """Return the list of pages for language models: title, address and first sentence of each."""
    sections: dict[str, list[str]] = {}
    for titles, page in nav_pages().items():
        sections.setdefault(titles[0], []).append(f"- [{titles[-1]}]({page}){_first_sentence(ROOT / 'docs' / page)}")
    return _HEAD + "\n\n".join(f"## {title}\n\n" + "\n".join(lines) for title, lines in sections.items()) + "\n"


def _first_sentence(path: Path) -> str:
    text = re.sub(r"<!--.*?-->", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    for block in re.split(r"\n\s*\n", text):
        words = " ".join(block.split())
        if re.match(r"[A-Za-z\[]", words) and words != "Accepted.":
            plain = re.sub(r"\[([^\]]+)\]\([^)]+\)", r"\1", words).removeprefix("Goal: ")
            return ": " + re.split(r"(?<=[.?])\s", plain, maxsplit=1)[0].rstrip(":")
    return ""


def build(folder: Path) -> int:
    """Build the site into a folder, and return the exit status. A warning, such as a broken link, is an error.

    Zensical writes only below the folder of its settings, and leaves a cache there: it works in a copy.
    """
    with tempfile.TemporaryDirectory() as copy:
        shutil.copytree(ROOT / "docs", Path(copy) / "docs")
        shutil.copy(SETTINGS, copy)
        command = [sys.executable, "-m", "zensical", "build", "--clean", "--strict"]
        status = subprocess.run(command, cwd=copy, check=False).returncode
        if status == 0:
            shutil.copytree(Path(copy) / "build/site", folder, dirs_exist_ok=True)
    return status


def main() -> int:
    """Write llms.txt, or build the site."""
    if sys.argv[1:] == ["--llms"]:
        (ROOT / "docs/llms.txt").write_text(llms(), encoding="utf-8")
        return 0
    return build(Path(sys.argv[1] if sys.argv[1:] else "build/site").resolve())


if __name__ == "__main__":
    raise SystemExit(main())
