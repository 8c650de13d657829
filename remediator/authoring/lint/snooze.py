"""Exceptions: ``# remediator: off RULE until 2027-01-01 because …`` switches a warning off, for a while, for a reason.

At the end of a line, or alone above it, it is for that line; before the file's first line of content, for the file.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date

from remediator.playbooks.diagnostics import Diagnostic, Severity, did_you_mean
from remediator.playbooks.parsing.nodes import Scalar, Text

_COMMENT = re.compile(r"(?:^|\s)#\s*remediator\s*:(?P<said>.*)$")
_SAID = re.compile(r"\s*off\s+(?P<rules>\S.*?)\s+until\s+(?P<until>\S+)\s+because\s+(?P<why>\S.*)$")
_FORM = "write it like: # remediator: off guard-off until 2027-01-01 because there is one instance only"


@dataclass(frozen=True, slots=True)
class Snooze:
    """An exception that was understood."""

    rules: frozenset[str]
    until: date
    """The last day on which it holds."""
    why: str
    file: str
    line: int | None
    """The line that it is for; None for the whole file."""
    at: Scalar
    """The comment."""

    def covers(self, finding: Diagnostic) -> bool:
        """Whether it is about this finding, ended or not."""
        here = self.line is None or self.line == finding.line
        return finding.file == self.file and finding.rule in self.rules and here


def apply(
    findings: Sequence[Diagnostic], texts: Iterable[Text], rules: Collection[str], errors: Collection[str], today: date
) -> tuple[list[Diagnostic], list[Diagnostic]]:
    """Findings that stand, and those that are switched off.

    Args:
        findings: what was found.
        texts: the files, in which the exceptions are comments.
        rules: ids that may be switched off.
        errors: ids that may not.
        today: an exception holds up to and including its day.
    """
    snoozes: list[Snooze] = []
    standing: list[Diagnostic] = []
    for text in texts:
        for found in _read(text, rules, errors):
            snoozes.append(found) if isinstance(found, Snooze) else standing.append(found)
    off: list[Diagnostic] = []
    for finding in findings:
        covering = [snooze for snooze in snoozes if snooze.covers(finding) and finding.severity is not Severity.ERROR]
        if any(snooze.until >= today for snooze in covering):
            off.append(finding)
        elif covering:
            ended = max(snooze.until for snooze in covering)
            hint = f"the exception ended on {ended}: mend it now, or give a new date and reason; {finding.hint}"
            standing.append(replace(finding, hint=hint))
        else:
            standing.append(finding)
    return standing, off


def _read(text: Text, rules: Collection[str], errors: Collection[str]) -> Iterator[Snooze | Diagnostic]:
    header = True
    for number, line in enumerate(text.lines, 1):
        content = line.strip()
        if content and not content.startswith("#"):
            header = False
        found = _COMMENT.search(line)
        if found is not None:
            place = Scalar(text, number, found.start("said") + 1, len(line) - found.start("said"), None, "", None)
            target = None if header else number if not content.startswith("#") else _next(text, number)
            yield from _understood(found["said"], text, target, place, rules, errors)


def _next(text: Text, number: int) -> int:
    """The line of content after a comment's line."""
    for following in range(number + 1, len(text.lines) + 1):
        content = text.line(following).strip()
        if content and not content.startswith("#"):
            return following
    return number


def _understood(
    said: str, text: Text, line: int | None, place: Scalar, rules: Collection[str], errors: Collection[str]
) -> Iterator[Snooze | Diagnostic]:
    found = _SAID.match(said)
    until = _date(found["until"]) if found is not None else None
    if found is None or until is None:
        yield place.finding("bad-snooze", "this exception is not understood", _FORM)
        return
    names = frozenset(re.split(r"[\s,]+", found["rules"]))
    for name in sorted(names):
        if name in errors:
            yield place.finding("bad-snooze", f"{name} is an error and cannot be switched off", "mend it")
        elif name not in rules:
            yield place.finding("bad-snooze", f"there is no rule {name!r}", did_you_mean(name, rules))
    if len(found["why"]) < 5:
        yield place.finding("bad-snooze", "the reason is too short to be one", _FORM)
    yield Snooze(names, until, found["why"], text.file, line, place)


def _date(text: str) -> date | None:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None
