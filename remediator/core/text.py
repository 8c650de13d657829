"""Text from outside, made safe to show: no character of it steers a terminal or changes the order of the text."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Mapping, Sequence

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})
"""Categories of invisible characters: control characters, format characters that change the text direction, and others.
"""


def printable(text: str, replacement: str = REPLACEMENT) -> str:
    """Return text on one line in which each character without a picture is replaced."""
    if text.isprintable():
        return text
    return "".join(replacement if unicodedata.category(letter) in _HIDDEN else letter for letter in text)


def printable_lines(text: str) -> str:
    """Return text of several lines in which each character without a picture, except newline and tab, is replaced."""
    return "\n".join("\t".join(map(printable, line.split("\t"))) for line in text.split("\n"))


def shorten(text: str, limit: int) -> str:
    """Return at most ``limit`` characters of a text; a shortened one ends with an ellipsis."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def join_names(names: Sequence[str], limit: int = 5) -> str:
    """Join names with commas: ``a, b, c``. After ``limit`` names, add the number of further names."""
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")


MAX_LABEL = 80
"""Characters of one label value that people are shown. A value may have megabytes; the API has all of it."""


def label_text(labels: Mapping[str, str], without: Collection[str] = ()) -> str:
    """Return labels for people, in order, with shortened values, so that one long value does not hide another label."""
    shown = (f"{name}={shorten(value, MAX_LABEL)}" for name, value in sorted(labels.items()) if name not in without)
    return ", ".join(shown)
