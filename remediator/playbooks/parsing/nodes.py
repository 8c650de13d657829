"""YAML as a tree in which everything knows its place: file, line and column.

A small, strict YAML: one document of mappings, lists and scalars. What YAML has beyond that (anchors, tags, merge keys,
several documents) is refused with a sentence, and plain scalars that one YAML reads differently from another are text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from remediator.playbooks.diagnostics import Diagnostic, Severity

Path = tuple[str | int, ...]


BREAK = re.compile("\r\n|[\r\n\x85\u2028\u2029]")


@dataclass(frozen=True, slots=True)
class Text:
    """A file's text, for showing lines and counting columns."""

    file: str
    content: str
    lines: Sequence[str]

    @classmethod
    def of(cls, file: str, content: str) -> Text:
        """A file's text, cut into lines where YAML cuts it."""
        return cls(file, content, BREAK.split(content))

    def place(self, at: int) -> tuple[int, int]:
        """Line and column of a position in the text."""
        breaks = list(BREAK.finditer(self.content, 0, at))
        return len(breaks) + 1, at - (breaks[-1].end() if breaks else 0) + 1

    def line(self, number: int) -> str:
        """The line of this number, counted from 1."""
        return self.lines[number - 1] if 0 < number <= len(self.lines) else ""


@dataclass(slots=True)
class Node:
    """A piece of a file."""

    text: Text = field(repr=False)
    line: int
    """Counted from 1."""
    column: int
    """Counted from 1."""
    width: int
    """How many characters of its first line it takes."""

    def finding(
        self, rule: str, message: str, hint: str = "", severity: Severity = Severity.ERROR, offset: int = 0
    ) -> Diagnostic:
        """What is wrong here.

        Args:
            rule: the id.
            message: what is wrong.
            hint: how to mend it.
            severity: how bad it is.
            offset: column within the scalar's text, counted from 1; 0 for the whole of it.
        """
        line, column, width = self._at(offset)
        source = self.text.line(line)
        return Diagnostic(self.text.file, line, column, rule, severity, message, hint, width, source)

    def _at(self, offset: int) -> tuple[int, int, int]:
        return self.line, self.column, self.width


@dataclass(slots=True)
class Scalar(Node):
    """Text, a number, true, false, or nothing."""

    value: str | int | float | bool | None
    raw: str
    """As YAML understands it, before it is taken for a number."""
    style: str | None
    """``'``, ``"``, ``|``, ``>``, or None for a plain one."""
    start: int = 0
    """Where it begins in the file's text."""

    def _at(self, offset: int) -> tuple[int, int, int]:
        if offset < 1 or self.style in ("|", ">"):
            return self.line, self.column, self.width
        at = self.start + _raw_offset(self.text.content, self.start, self.style, offset - 1)
        return (*self.text.place(at), 1)


@dataclass(slots=True)
class Items(Node):
    """A list."""

    items: list[Node]


@dataclass(slots=True)
class Entry:
    """A key and its value."""

    key: Scalar
    value: Node


@dataclass(slots=True)
class Table(Node):
    """A mapping."""

    entries: dict[str, Entry]


def _raw_offset(content: str, start: int, style: str | None, decoded: int) -> int:
    """Where in the file the character of a scalar stands that is the so-many-th of its value; escapes take more."""
    if style is None:
        return decoded
    at = 1
    for _ in range(decoded):
        pair = content[start + at : start + at + 2]
        if style == "'" and pair == "''":
            at += 2
        elif style == '"' and pair.startswith("\\"):
            at += _ESCAPED.get(pair[1:], 2)
        else:
            at += 1
    return at


_ESCAPED = {"x": 4, "u": 6, "U": 10}

_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,18})")
_FLOAT = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,18})\.[0-9]+(?:[eE][-+][0-9]{1,3})?")
_WORDS: dict[str, bool | None] = {
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
}


def plain_value(raw: str) -> str | int | float | bool | None:
    """What a plain scalar is: only what every YAML takes for a number or a boolean is one, the rest is text."""
    if raw in _WORDS:
        return _WORDS[raw]
    if _INTEGER.fullmatch(raw):
        return int(raw)
    if _FLOAT.fullmatch(raw):
        return float(raw)
    return raw


_SURPRISES: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"y|yes|on", re.IGNORECASE), "is true to an old YAML and text to a new one; write true"),
    (re.compile(r"n|no|off", re.IGNORECASE), "is false to an old YAML and text to a new one; write false"),
    (re.compile(r"[-+]?0[0-9]+"), "is octal to one YAML and decimal to another; write it without the leading zero"),
    (re.compile(r"[-+]?0[oxb][0-9a-fA-F_]+"), "is a number to one YAML and text to another; write it in decimal"),
    (re.compile(r"[-+]?[0-9][0-9_]*_[0-9_]*"), "is a number to one YAML and text to another; leave out the _"),
    (re.compile(r"[-+]?[0-9.]+[eE][-+]?[0-9]+"), "is a number to one YAML and text to another; write it out in full"),
    (re.compile(r"[-+]?[0-9]+(:[0-5]?[0-9])+"), "is base 60 to an old YAML and text to a new one; a duration is 1h30m"),
    (re.compile(r"[-+]?\.(inf|nan)", re.IGNORECASE), "is no number that can be used here"),
    (
        re.compile(r"[-+]?\.[0-9]+|[-+]?[0-9]+\."),
        "is a number to one YAML and text to another; write digits on both sides",
    ),
)


def surprise(node: Node) -> str:
    """Why a plain scalar that looks like a number or a boolean is not taken for one; empty if it is no such."""
    if not isinstance(node, Scalar) or node.style is not None or not isinstance(node.value, str):
        return ""
    return next((why for pattern, why in _SURPRISES if pattern.fullmatch(node.raw)), "")


def data(node: Node) -> Any:
    """The tree as plain data."""
    if isinstance(node, Table):
        return {name: data(entry.value) for name, entry in node.entries.items()}
    if isinstance(node, Items):
        return [data(item) for item in node.items]
    assert isinstance(node, Scalar), "there are three kinds of nodes"
    return node.value


def find(node: Node, path: Path) -> tuple[Node, Path]:
    """Follow a path as far as it goes; the node there, and what is left of the path."""
    for at, step in enumerate(path):
        below = child(node, step)
        if below is None:
            return node, path[at:]
        node = below
    return node, ()


def child(node: Node, step: str | int) -> Node | None:
    """The value of a key, or the item at a position; None if there is no such."""
    if isinstance(node, Table) and isinstance(step, str):
        entry = node.entries.get(step)
        return None if entry is None else entry.value
    if isinstance(node, Items) and isinstance(step, int) and 0 <= step < len(node.items):
        return node.items[step]
    return None


def key_of(node: Node, path: Path) -> Scalar | None:
    """The key at the end of a path; None if it does not end in a mapping's key."""
    if not path or not isinstance(path[-1], str):
        return None
    above, left = find(node, path[:-1])
    if left or not isinstance(above, Table):
        return None
    entry = above.entries.get(path[-1])
    return None if entry is None else entry.key


def walk(node: Node, path: Path = ()) -> Iterator[tuple[Path, Scalar]]:
    """Every scalar value with its path."""
    if isinstance(node, Table):
        for name, entry in node.entries.items():
            yield from walk(entry.value, (*path, name))
    elif isinstance(node, Items):
        for at, item in enumerate(node.items):
            yield from walk(item, (*path, at))
    elif isinstance(node, Scalar):
        yield path, node


def kind(node: Node) -> str:
    """What a node is, in words: ``a list``, ``text``, ``a number``."""
    if isinstance(node, Table):
        return "a mapping"
    if isinstance(node, Items):
        return "a list"
    assert isinstance(node, Scalar), "there are three kinds of nodes"
    if node.value is None:
        return "nothing"
    if isinstance(node.value, bool):
        return "true or false"
    return "text" if isinstance(node.value, str) else "a number"
