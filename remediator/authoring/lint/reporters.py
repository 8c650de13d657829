"""Reporters: the same findings for eyes, for scripts, for GitHub's annotations and for SARIF viewers."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from remediator import __version__
from remediator.authoring.lint.errors import ERRORS
from remediator.authoring.lint.runner import RULES, Report
from remediator.playbooks.diagnostics import Diagnostic, Severity, render

Reporter = Callable[[Report, Sequence[Diagnostic]], str]
"""Takes the report, and of its findings those that are to be shown."""


def as_text(report: Report, shown: Sequence[Diagnostic]) -> str:
    """With source lines and carets, and a summary at the end."""
    return "\n".join((*(render(finding) + "\n" for finding in shown), *report.remarks, summary(report)))


def summary(report: Report) -> str:
    """One line: what was read and what was found."""
    counts = [f"{count} {each}{'s' if count != 1 else ''}" for each, count in report.counts.items() if count]
    off = f", {len(report.off)} switched off" if report.off else ""
    files = f"{report.files} file{'s' if report.files != 1 else ''}"
    usable = f"{report.playbooks} playbook{'s' if report.playbooks != 1 else ''} can be used"
    return f"{files}, {usable}: {', '.join(counts) or 'nothing to complain of'}{off}"


def as_json(report: Report, shown: Sequence[Diagnostic]) -> str:
    """Everything that a script may want."""
    made = {
        "findings": [_plain(finding) for finding in shown],
        "off": [_plain(finding) for finding in report.off],
        "counts": {each.value: count for each, count in report.counts.items()},
        "playbooks": report.playbooks,
        "files": report.files,
        "remarks": list(report.remarks),
    }
    return json.dumps(made, indent=2, ensure_ascii=False)


def _plain(finding: Diagnostic) -> Mapping[str, Any]:
    return {
        "file": finding.file,
        "line": finding.line,
        "column": finding.column,
        "width": finding.width,
        "rule": finding.rule,
        "severity": finding.severity.value,
        "message": finding.message,
        "hint": finding.hint,
    }


_GITHUB = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "notice"}


def as_github(report: Report, shown: Sequence[Diagnostic]) -> str:
    """Workflow commands, which GitHub shows at the lines of a pull request."""
    return "\n".join((*(_command(finding) for finding in shown), summary(report)))


def _command(finding: Diagnostic) -> str:
    properties = {"file": finding.file, "title": finding.rule}
    if finding.line:
        properties |= {"line": str(finding.line), "col": str(finding.column)}
    said = ",".join(f"{name}={_escaped(value, ',:')}" for name, value in properties.items())
    text = finding.message + (f"; {finding.hint}" if finding.hint else "")
    return f"::{_GITHUB[finding.severity]} {said}::{_escaped(text)}"


def _escaped(text: str, more: str = "") -> str:
    for character in "%\r\n" + more:
        text = text.replace(character, f"%{ord(character):02X}")
    return text


_SARIF = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "note"}


def as_sarif(report: Report, shown: Sequence[Diagnostic]) -> str:
    """SARIF 2.1.0, for code scanning."""
    driver = {"name": "remediator", "version": __version__, "rules": _rules()}
    run = {
        "tool": {"driver": driver},
        "columnKind": "unicodeCodePoints",
        "results": [
            *(_result(finding) for finding in shown),
            *({**_result(finding), "suppressions": [{"kind": "inSource"}]} for finding in report.off),
        ],
    }
    schema = "https://json.schemastore.org/sarif-2.1.0.json"
    return json.dumps({"$schema": schema, "version": "2.1.0", "runs": [run]}, indent=2, ensure_ascii=False)


def _rules() -> list[Mapping[str, Any]]:
    errors = [
        {"id": name, "shortDescription": {"text": each.what}, "help": {"text": each.mend}}
        for name, each in ERRORS.items()
    ]
    rules = [
        {
            "id": rule.id,
            "shortDescription": {"text": rule.what},
            "fullDescription": {"text": rule.why},
            "help": {"text": rule.mend},
            "defaultConfiguration": {"level": _SARIF[rule.severity]},
        }
        for rule in RULES
    ]
    return [*errors, *rules]


def _result(finding: Diagnostic) -> Mapping[str, Any]:
    place: dict[str, Any] = {"artifactLocation": {"uri": finding.file}}
    if finding.line:
        end = finding.column + finding.width
        place["region"] = {"startLine": finding.line, "startColumn": finding.column, "endColumn": end}
    text = finding.message + (f"; {finding.hint}" if finding.hint else "")
    return {
        "ruleId": finding.rule,
        "level": _SARIF[finding.severity],
        "message": {"text": text},
        "locations": [{"physicalLocation": place}],
    }


REPORTERS: Mapping[str, Reporter] = {"text": as_text, "json": as_json, "github": as_github, "sarif": as_sarif}
