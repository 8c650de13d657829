"""Fixtures with one error each: a folder with playbooks and the expected diagnostics of lint.

``python -m tests.authoring.lint.mistakes`` rewrites the expected diagnostics. Review the difference.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from pathlib import Path

from remediator.authoring.lint.runner import Report, Sources, lint
from remediator.config import Config
from remediator.playbooks.diagnostics import Diagnostic, Severity
from tests.authoring.lint.catalogue import CATALOGUE

HERE = Path(__file__).parent
FOLDER = HERE / "mistakes"
WORLD = HERE / "world"
TODAY = date(2026, 11, 23)


def cases() -> list[str]:
    """Return the names of the fixtures. A name begins with the ID of the rule that must find the error."""
    return sorted(folder.name for folder in FOLDER.iterdir())


def look(path: Path) -> Report:
    """Lint a path with the settings and inventory of the fixtures."""
    own = path / "settings"  # without the suffix of a playbook
    settings = own if own.is_file() else WORLD / "remediator.yaml"
    rules = path / "rules"
    sources = Sources([path], WORLD / "inventory.yaml", settings, [rules if rules.is_file() else WORLD / "alerting"])
    return lint(sources, CATALOGUE, Config, TODAY)


def said(case: str) -> str:
    """Return the diagnostics of a fixture as in ``expected.txt``, with informational ones only for its own rule."""
    diagnostics = look(FOLDER / case).diagnostics
    return "".join(_lines(case, [item for item in diagnostics if counts(case, item)]))


def counts(case: str, diagnostic: Diagnostic) -> bool:
    """Return whether a diagnostic counts: every error and warning, and informational ones of the case's own rule."""
    return diagnostic.severity is not Severity.INFO or case.startswith(diagnostic.rule)


def _lines(case: str, diagnostics: list[Diagnostic]) -> Iterator[str]:
    for item in diagnostics:
        name = Path(item.file).resolve().relative_to((FOLDER / case).resolve())
        yield f"{name}:{item.line}:{item.column}: {item.severity}: {item.message} ({item.rule})\n"
        if item.hint:
            yield f"  help: {item.hint}\n"


if __name__ == "__main__":
    for each in cases():
        (FOLDER / each / "expected.txt").write_text(said(each), encoding="utf-8")
