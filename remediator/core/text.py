"""Text from outside, made safe to show: no character of it steers a terminal or changes the order of the text."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Mapping

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})
"""Categories of characters without a picture: control characters (ESC, the others of C0, C1), the ones that change
the direction of text, surrogates, private characters, and line and paragraph separators."""


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


MAX_LABEL = 80
"""Characters of one label value that people are shown. A value may have megabytes; the API has all of it."""


def label_text(labels: Mapping[str, str], without: Collection[str] = ()) -> str:
    """Return labels for people, in order, each value shortened, so that one long value hides no other label."""
    shown = (f"{name}={shorten(value, MAX_LABEL)}" for name, value in sorted(labels.items()) if name not in without)
    return ", ".join(shown)
