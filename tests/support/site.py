"""Build the documentation site: ``python -m tests.support.site [FOLDER]``; ``--llms`` writes docs/llms.txt.

The site has a folder for each version, such as ``0.1``, beside those of earlier builds. ``latest`` is a copy of the
newest one. ``versions.json`` has the format of mike, which the theme reads for its selector.
"""

from __future__ import annotations

import json
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
LATEST = "latest"
_REDIRECT = """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>remediator</title>
<meta http-equiv="refresh" content="0; url=latest/index.html">
<a href="latest/index.html">Documentation of the newest version</a>
</html>
"""
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
    """Return the page of each entry of the navigation, with the titles above it."""
    return _walk(tomllib.loads(SETTINGS.read_text(encoding="utf-8"))["project"]["nav"])


def pages_without_nav() -> list[str]:
    """Return the pages that are in no entry of the navigation."""
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


def current_version() -> str:
    """Return the version of the pages: major and minor number of the project."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return ".".join(project["version"].split(".")[:2])


def build(folder: Path, version: str) -> int:
    """Build the pages of a version into a site, and return the exit status.

    A warning, such as a broken link, is an error. Zensical writes only below the folder of its settings, and leaves a
    cache there, so this function works in a copy.

    Args:
        folder: the site. The folders of other versions in it stay.
        version: the name of the version, such as ``0.1``.
    """
    with tempfile.TemporaryDirectory() as copy:
        shutil.copytree(ROOT / "docs", Path(copy) / "docs")
        shutil.copy(SETTINGS, copy)
        command = [sys.executable, "-m", "zensical", "build", "--clean", "--strict"]
        status = subprocess.run(command, cwd=copy, check=False).returncode
        if status == 0:
            _replace(Path(copy) / "build/site", folder / version)
            _write_versions(folder)
    return status


def _write_versions(folder: Path) -> None:
    """List the versions of a site, newest first, and make its first page lead to the newest one."""
    found = [path.name for path in folder.iterdir() if path.is_dir() and re.fullmatch(r"\d+(\.\d+)*", path.name)]
    found.sort(key=lambda name: [int(part) for part in name.split(".")], reverse=True)
    _replace(folder / found[0], folder / LATEST)
    listed = [{"version": name, "title": name, "aliases": [LATEST] if name == found[0] else []} for name in found]
    (folder / "versions.json").write_text(json.dumps(listed, indent=2) + "\n", encoding="utf-8")
    (folder / "index.html").write_text(_REDIRECT, encoding="utf-8")


def _replace(source: Path, target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)


def main() -> int:
    """Write llms.txt, or build the site."""
    if sys.argv[1:] == ["--llms"]:
        (ROOT / "docs/llms.txt").write_text(llms(), encoding="utf-8")
        return 0
    return build(Path(sys.argv[1] if sys.argv[1:] else "build/site").resolve(), current_version())


if __name__ == "__main__":
    raise SystemExit(main())
