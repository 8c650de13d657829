"""Diagnostics: what is wrong with a file, where, and how to fix it. Checks return them, reporters print them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from difflib import get_close_matches
from enum import StrEnum
from typing import Any

import re2

from remediator.audit.redact import REDACTED, WITHOUT_NAMES

_VALUE = re2.compile(
    r"(?i)([\w.-]*(?:password|passwd|passphrase|secret|token|(?:api|access|private|routing|signing)_?key)[\"']?\s*:\s+)"
    r"(?:\"[^\"]*\"?|'[^']*'?|[^\s,{}\[\]#&\"'][^,}]*)"
)
"""A value in a line of YAML under a name like ``password``. A name like ``password_file`` has the path of a file. RE2
needs time in proportion to the line."""


def _hidden(found: Any) -> str:
    return str(found[1]) + REDACTED


class Severity(StrEnum):
    """Severity of a diagnostic."""

    ERROR = "error"
    """The file cannot be used."""
    WARNING = "warning"
    """The file can be used, but contains a risk."""
    INFO = "info"
    """The file can be used; the diagnostic names an improvement."""

    @property
    def weight(self) -> int:
        """Return a number for comparisons; the most severe has the highest."""
        return ("info", "warning", "error").index(self.value)


@dataclass(frozen=True, slots=True, order=True)
class Diagnostic:
    """One problem at one place in a file."""

    file: str
    line: int
    """Counted from 1; 0 for the file as a whole."""
    column: int
    """Counted from 1, in characters."""
    rule: str
    severity: Severity = field(compare=False)
    message: str = field(compare=False)
    hint: str = field(default="", compare=False)
    """How to fix it; may be empty."""
    width: int = field(default=1, compare=False)
    """Number of characters to mark in the line."""
    source: str = field(default="", compare=False, repr=False)
    """The text of the line."""

    def __post_init__(self) -> None:
        """Remove secrets, which may have been written where they are not allowed: a log or a report keeps the text."""
        for name, text in (
            ("message", self.message),
            ("hint", self.hint),
            ("source", _VALUE.sub(_hidden, self.source)),
        ):
            object.__setattr__(self, name, WITHOUT_NAMES.text(text))

    @property
    def place(self) -> str:
        """Return ``file:line:column``, or the file alone if the diagnostic is about the whole file."""
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file

    def __str__(self) -> str:
        hint = f"; {self.hint}" if self.hint else ""
        return f"{self.place}: {self.severity}: {self.message}{hint} ({self.rule})"


def render(diagnostic: Diagnostic) -> str:
    """Return a diagnostic with its line and a caret below the place, for a terminal without colors."""
    lines = [f"{diagnostic.place}: {diagnostic.severity}: {diagnostic.message} ({diagnostic.rule})"]
    if diagnostic.source.strip():
        # keep tabs, so that the caret is below its place with every tab width
        before = "".join("\t" if character == "\t" else " " for character in diagnostic.source[: diagnostic.column - 1])
        width = max(1, min(diagnostic.width, len(diagnostic.source) - diagnostic.column + 1))
        number = str(diagnostic.line)
        lines.append(f"  {number} | {diagnostic.source}")
        lines.append(f"  {' ' * len(number)} | {before}{'^' * width}")
    if diagnostic.hint:
        lines.append(f"  help: {diagnostic.hint}")
    return "\n".join(lines)


def similar_name(given: str, known: Iterable[str]) -> str:
    """Return ``did you mean 'redis'?`` for the most similar known name; empty if none is similar."""
    names = sorted(set(known))
    similar = get_close_matches(given, names, n=1, cutoff=0.6)
    similar = similar or [name for name in names if name.lower() == given.lower()]
    return f"did you mean {similar[0]!r}?" if similar else ""


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """Return the most similar known name as a question, or the list of known names; possibly empty."""
    names = sorted(set(known))
    shown = ", ".join(names[:20]) + (", …" if len(names) > 20 else "")
    return similar_name(given, names) or (f"known: {shown}" if names else "")
