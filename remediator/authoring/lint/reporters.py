"""Reporters: print diagnostics for a terminal, as JSON, as GitHub annotations or as SARIF."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from remediator import __version__
from remediator.authoring.lint.errors import ERRORS
from remediator.authoring.lint.runner import RULES, Report
from remediator.playbooks.diagnostics import Diagnostic, Severity, render
from remediator.reporting.formatting import plural

Reporter = Callable[[Report, Sequence[Diagnostic]], str]
"""Takes the report and the diagnostics to show; returns the output."""


def as_text(report: Report, shown: Sequence[Diagnostic]) -> str:
    """Return the diagnostics with source lines and carets, and a summary at the end."""
    return "\n".join((*(render(diagnostic) + "\n" for diagnostic in shown), *report.skipped, summary(report)))


def summary(report: Report) -> str:
    """Return one line with the numbers of files and findings."""
    counts = [plural(count, each) for each, count in report.counts.items() if count]
    suppressed = f", {len(report.suppressed)} suppressed" if report.suppressed else ""
    usable = f"{plural(report.playbooks, 'playbook')} can be used"
    return f"{plural(report.files, 'file')}, {usable}: {', '.join(counts) or 'no findings'}{suppressed}"


def as_json(report: Report, shown: Sequence[Diagnostic]) -> str:
    """Return the whole report as JSON."""
    made = {
        "findings": [_plain(diagnostic) for diagnostic in shown],
        "suppressed": [_plain(diagnostic) for diagnostic in report.suppressed],
        "counts": {each.value: count for each, count in report.counts.items()},
        "playbooks": report.playbooks,
        "files": report.files,
        "skipped": list(report.skipped),
    }
    return json.dumps(made, indent=2, ensure_ascii=False)


def _plain(diagnostic: Diagnostic) -> Mapping[str, Any]:
    return {
        "file": diagnostic.file,
        "line": diagnostic.line,
        "column": diagnostic.column,
        "width": diagnostic.width,
        "rule": diagnostic.rule,
        "severity": diagnostic.severity.value,
        "message": diagnostic.message,
        "hint": diagnostic.hint,
    }


_GITHUB = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "notice"}


def as_github(report: Report, shown: Sequence[Diagnostic]) -> str:
    """Return workflow commands, which GitHub shows at the lines of a pull request."""
    lines = []
    for diagnostic in shown:
        properties = {"file": diagnostic.file, "title": diagnostic.rule}
        if diagnostic.line:
            properties |= {"line": str(diagnostic.line), "col": str(diagnostic.column)}
        said = ",".join(f"{name}={_escaped(value, ',:')}" for name, value in properties.items())
        text = diagnostic.message + (f"; {diagnostic.hint}" if diagnostic.hint else "")
        lines.append(f"::{_GITHUB[diagnostic.severity]} {said}::{_escaped(text)}")
    return "\n".join((*lines, summary(report)))


def _escaped(text: str, more: str = "") -> str:
    for character in "%\r\n" + more:
        text = text.replace(character, f"%{ord(character):02X}")
    return text


_SARIF = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "note"}


def as_sarif(report: Report, shown: Sequence[Diagnostic]) -> str:
    """Return SARIF 2.1.0, for code scanning."""
    errors = [
        {"id": name, "shortDescription": {"text": each.summary}, "help": {"text": each.fix}}
        for name, each in ERRORS.items()
    ]
    rules = [
        {
            "id": rule.id,
            "shortDescription": {"text": rule.summary()},
            "fullDescription": {"text": rule.why},
            "help": {"text": rule.fix},
            "defaultConfiguration": {"level": _SARIF[rule.severity]},
        }
        for rule in RULES
    ]
    run = {
        "tool": {"driver": {"name": "remediator", "version": __version__, "rules": [*errors, *rules]}},
        "columnKind": "unicodeCodePoints",
        "results": [
            *(_result(diagnostic) for diagnostic in shown),
            *({**_result(diagnostic), "suppressions": [{"kind": "inSource"}]} for diagnostic in report.suppressed),
        ],
    }
    schema = "https://json.schemastore.org/sarif-2.1.0.json"
    return json.dumps({"$schema": schema, "version": "2.1.0", "runs": [run]}, indent=2, ensure_ascii=False)


def _result(diagnostic: Diagnostic) -> Mapping[str, Any]:
    place: dict[str, Any] = {"artifactLocation": {"uri": diagnostic.file}}
    if diagnostic.line:
        end = diagnostic.column + diagnostic.width
        place["region"] = {"startLine": diagnostic.line, "startColumn": diagnostic.column, "endColumn": end}
    text = diagnostic.message + (f"; {diagnostic.hint}" if diagnostic.hint else "")
    return {
        "ruleId": diagnostic.rule,
        "level": _SARIF[diagnostic.severity],
        "message": {"text": text},
        "locations": [{"physicalLocation": place}],
    }


REPORTERS: Mapping[str, Reporter] = {"text": as_text, "json": as_json, "github": as_github, "sarif": as_sarif}
