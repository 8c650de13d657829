"""Findings: what is wrong with a file, where, and how to mend it. Checks return them; reporters print them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from difflib import get_close_matches
from enum import StrEnum


class Severity(StrEnum):
    """How bad it is."""

    ERROR = "error"
    """The file cannot be used."""
    WARNING = "warning"
    """It can be used, and there is a risk in it."""
    INFO = "info"
    """Worth knowing."""

    @property
    def weight(self) -> int:
        """For comparing: the worse, the greater."""
        return ("info", "warning", "error").index(self.value)


@dataclass(frozen=True, slots=True, order=True)
class Diagnostic:
    """One thing that is wrong, in one place."""

    file: str
    line: int
    """Counted from 1; 0 where the file as a whole is meant."""
    column: int
    """Counted from 1, in characters."""
    rule: str
    severity: Severity = field(compare=False)
    message: str = field(compare=False)
    hint: str = field(default="", compare=False)
    """How to mend it; may be empty."""
    width: int = field(default=1, compare=False)
    """How many characters of the line are meant."""
    source: str = field(default="", compare=False, repr=False)
    """The line itself."""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        hint = f"; {self.hint}" if self.hint else ""
        return f"{place}: {self.severity}: {self.message}{hint} ({self.rule})"


def render(finding: Diagnostic) -> str:
    """A finding with its line and a caret under the place, for a terminal without colours."""
    place = f"{finding.file}:{finding.line}:{finding.column}" if finding.line else finding.file
    lines = [f"{place}: {finding.severity}: {finding.message} ({finding.rule})"]
    if finding.source.strip():
        # tabs are kept, so that the caret stands under its place however wide they are shown
        before = "".join("\t" if character == "\t" else " " for character in finding.source[: finding.column - 1])
        width = max(1, min(finding.width, len(finding.source) - finding.column + 1))
        number = str(finding.line)
        lines.append(f"  {number} | {finding.source}")
        lines.append(f"  {' ' * len(number)} | {before}{'^' * width}")
    if finding.hint:
        lines.append(f"  help: {finding.hint}")
    return "\n".join(lines)


def worst(findings: Iterable[Diagnostic]) -> Severity | None:
    """The worst severity among them; None if there are none."""
    return max((finding.severity for finding in findings), key=lambda severity: severity.weight, default=None)


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """``did you mean 'redis'?``, or what there is if nothing is near; empty if there is nothing at all."""
    names = sorted(set(known))
    near = get_close_matches(given, names, n=1, cutoff=0.6)
    lower = {name.lower(): name for name in names}
    if not near and given.lower() in lower:
        near = [lower[given.lower()]]
    if near:
        return f"did you mean {near[0]!r}?"
    shown = ", ".join(names[:20]) + (", …" if len(names) > 20 else "")
    return f"there are: {shown}" if names else ""
