"""The seeded mistakes: a folder each, with playbooks that are wrong in one way and what lint has to say of it.

``python -m tests.authoring.lint.mistakes`` writes anew what lint says; the difference is for a person to read.
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
    """The name of every mistake: it begins with the id of the rule that has to find it."""
    return sorted(folder.name for folder in FOLDER.iterdir())


def look(path: Path) -> Report:
    """What lint says of playbooks, in the small world of the fixtures."""
    own = path / "settings"  # without a suffix, for it is no playbook
    settings = own if own.is_file() else WORLD / "remediator.yaml"
    sources = Sources([path], WORLD / "inventory.yaml", settings, [WORLD / "alerting"])
    return lint(sources, CATALOGUE, Config, TODAY)


def said(case: str) -> str:
    """What lint says of a mistake, as its ``expected.txt`` has it; remarks only of the rule in question."""
    diagnostics = look(FOLDER / case).diagnostics
    return "".join(_lines(case, [item for item in diagnostics if counts(case, item)]))


def counts(case: str, diagnostic: Diagnostic) -> bool:
    """Whether a diagnostic belongs to a mistake: every error and warning does."""
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
