"""Suppressions: ``# remediator: off RULE until 2027-01-01 because …`` suppresses a warning until a date, with a reason.

At the end of a line, or alone above it, the comment applies to that line. Before the first line of content, it applies
to the whole file.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date

from remediator.playbooks.diagnostics import Diagnostic, Severity, did_you_mean
from remediator.playbooks.parsing.nodes import Scalar, Text

_COMMENT = re.compile(r"(?:^|\s)#\s*remediator\s*:(?P<content>.*)$")
_CONTENT = re.compile(r"\s*off\s+(?P<rules>\S.*?)\s+until\s+(?P<until>\S+)\s+because\s+(?P<reason>\S.*)$")
_FORM = "use the form # remediator: off guard-off until 2027-01-01 because there is one instance only"


@dataclass(frozen=True, slots=True)
class Suppression:
    """A valid suppression comment."""

    rules: frozenset[str]
    until: date
    """The last day on which the suppression applies."""
    file: str
    line: int | None
    """The line that it applies to; None for the whole file."""

    def covers(self, diagnostic: Diagnostic) -> bool:
        """Return whether it names this diagnostic. The date is not considered."""
        same_line = self.line is None or self.line == diagnostic.line
        return diagnostic.file == self.file and diagnostic.rule in self.rules and same_line


def apply(
    diagnostics: Sequence[Diagnostic],
    texts: Iterable[Text],
    rules: Collection[str],
    errors: Collection[str],
    today: date,
) -> tuple[list[Diagnostic], list[Diagnostic]]:
    """Split diagnostics into active and suppressed ones.

    Args:
        diagnostics: what was found.
        texts: the files, which contain the suppressions as comments.
        rules: IDs that can be suppressed.
        errors: IDs that cannot be suppressed.
        today: a suppression applies up to and including its date.
    """
    suppressions: list[Suppression] = []
    active: list[Diagnostic] = []
    for text in texts:
        for found in _read(text, rules, errors):
            suppressions.append(found) if isinstance(found, Suppression) else active.append(found)
    suppressed: list[Diagnostic] = []
    for diagnostic in diagnostics:
        covering = [item for item in suppressions if item.covers(diagnostic)]
        if diagnostic.severity is Severity.ERROR or not covering:
            active.append(diagnostic)
        elif any(item.until >= today for item in covering):
            suppressed.append(diagnostic)
        else:
            ended = max(item.until for item in covering)
            hint = f"the suppression ended on {ended}: fix the cause, or set a new date and reason; {diagnostic.hint}"
            active.append(replace(diagnostic, hint=hint))
    return active, suppressed


def _read(text: Text, rules: Collection[str], errors: Collection[str]) -> Iterator[Suppression | Diagnostic]:
    before_content = True
    for number, line in enumerate(text.lines, 1):
        is_content = _is_content(line)
        before_content = before_content and not is_content
        found = _COMMENT.search(line)
        if found is None:
            continue
        start = found.start("content")
        place = Scalar(text, number, start + 1, len(line) - start, None, "", None)
        target = None if before_content else number if is_content else _next_content_line(text, number)
        yield from _parse(found["content"], target, place, rules, errors)


def _is_content(line: str) -> bool:
    return bool(line.strip()) and not line.strip().startswith("#")


def _next_content_line(text: Text, number: int) -> int:
    following = range(number + 1, len(text.lines) + 1)
    return next((each for each in following if _is_content(text.line(each))), number)


def _parse(
    content: str, line: int | None, place: Scalar, rules: Collection[str], errors: Collection[str]
) -> Iterator[Suppression | Diagnostic]:
    found = _CONTENT.match(content)
    try:
        until = date.fromisoformat(found["until"]) if found is not None else None
    except ValueError:
        until = None
    if found is None or until is None:
        yield place.diagnostic("bad-suppression", "this suppression is not valid", _FORM)
        return
    names = frozenset(re.split(r"[\s,]+", found["rules"]))
    for name in sorted(names):
        if name in errors:
            message = f"{name} is an error and cannot be suppressed"
            yield place.diagnostic("bad-suppression", message, "fix the error, and remove the comment")
        elif name not in rules:
            yield place.diagnostic("bad-suppression", f"unknown rule {name!r}", did_you_mean(name, rules))
    if len(found["reason"]) < 5:
        yield place.diagnostic("bad-suppression", "the reason has fewer than 5 characters", _FORM)
    yield Suppression(names, until, place.text.file, line)
