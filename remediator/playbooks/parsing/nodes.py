"""YAML as a tree of nodes. Each node knows its place: file, line and column.

The reader accepts a strict subset of YAML: one document of mappings, lists and scalars. It refuses anchors, tags, merge
keys and several documents. Plain scalars that YAML versions read differently are text.
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
    """The text of a file, to show lines and to count columns."""

    file: str
    content: str
    lines: Sequence[str]

    @classmethod
    def of(cls, file: str, content: str) -> Text:
        """Split the content of a file into lines as YAML does."""
        return cls(file, content, BREAK.split(content))

    def place(self, at: int) -> tuple[int, int]:
        """Return line and column of a position in the text."""
        breaks = list(BREAK.finditer(self.content, 0, at))
        return len(breaks) + 1, at - (breaks[-1].end() if breaks else 0) + 1

    def line(self, number: int) -> str:
        """Return a line by its number, counted from 1; possibly empty."""
        return self.lines[number - 1] if 0 < number <= len(self.lines) else ""


@dataclass(slots=True)
class Node:
    """A part of a file."""

    text: Text = field(repr=False)
    line: int
    """Counted from 1."""
    column: int
    """Counted from 1."""
    width: int
    """Number of characters in its first line."""

    def diagnostic(
        self, rule: str, message: str, hint: str = "", severity: Severity = Severity.ERROR, offset: int = 0
    ) -> Diagnostic:
        """Return a diagnostic at this node.

        Args:
            rule: the ID.
            message: what is wrong.
            hint: how to fix it.
            severity: the severity.
            offset: column within the text of a scalar, counted from 1; 0 for the whole node.
        """
        line, column, width = self._place(offset)
        source = self.text.line(line)
        return Diagnostic(self.text.file, line, column, rule, severity, message, hint, width, source)

    def _place(self, offset: int) -> tuple[int, int, int]:
        return self.line, self.column, self.width


@dataclass(slots=True)
class Scalar(Node):
    """A text, a number, true, false, or no value."""

    value: str | int | float | bool | None
    raw: str
    """The text before it is converted to a number or a boolean."""
    style: str | None
    """``'``, ``"``, ``|``, ``>``, or None for a plain scalar."""
    start: int = 0
    """Position in the text of the file."""

    def _place(self, offset: int) -> tuple[int, int, int]:
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
    """Return the offset in the file of a character of a scalar's value. Escapes are longer in the file."""
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


def parse_plain(raw: str) -> str | int | float | bool | None:
    """Convert a plain scalar. A value becomes a number or a boolean only if every YAML version reads it as such."""
    if raw in _WORDS:
        return _WORDS[raw]
    if _INTEGER.fullmatch(raw):
        return int(raw)
    if _FLOAT.fullmatch(raw):
        return float(raw)
    return raw


_AMBIGUOUS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"y|yes|on", re.IGNORECASE), "is true in YAML 1.1 and text in YAML 1.2; write true"),
    (re.compile(r"n|no|off", re.IGNORECASE), "is false in YAML 1.1 and text in YAML 1.2; write false"),
    (re.compile(r"[-+]?0[0-9]+"), "is octal in YAML 1.1 and decimal in YAML 1.2; remove the leading zero"),
    (
        re.compile(r"[-+]?0[oxb][0-9a-fA-F_]+"),
        "is a number or text, depending on the YAML version; write it in decimal",
    ),
    (re.compile(r"[-+]?[0-9][0-9_]*_[0-9_]*"), "is a number in YAML 1.1 and text in YAML 1.2; remove the _"),
    (
        re.compile(r"[-+]?[0-9.]+[eE][-+]?[0-9]+"),
        "is a number or text, depending on the YAML version; write all digits",
    ),
    (
        re.compile(r"[-+]?[0-9]+(:[0-5]?[0-9])+"),
        "is base 60 in YAML 1.1 and text in YAML 1.2; write a duration as 1h30m",
    ),
    (re.compile(r"[-+]?\.(inf|nan)", re.IGNORECASE), "is not a number that can be used here"),
    (
        re.compile(r"[-+]?\.[0-9]+|[-+]?[0-9]+\."),
        "is a number or text, depending on the YAML version; write digits on both sides",
    ),
)


def ambiguity(node: Node) -> str:
    """Return why a plain scalar that looks like a number or a boolean is text; empty if it does not look like one."""
    if not isinstance(node, Scalar) or node.style is not None or not isinstance(node.value, str):
        return ""
    return next((reason for pattern, reason in _AMBIGUOUS if pattern.fullmatch(node.raw)), "")


def data(node: Node) -> Any:
    """Return the tree as plain data."""
    if isinstance(node, Table):
        return {name: data(entry.value) for name, entry in node.entries.items()}
    if isinstance(node, Items):
        return [data(item) for item in node.items]
    assert isinstance(node, Scalar), "a node is a mapping, a list or a scalar"
    return node.value


def find(node: Node, path: Path) -> tuple[Node, Path]:
    """Follow a path as far as possible; return the last node, and the rest of the path."""
    for at, step in enumerate(path):
        below = child(node, step)
        if below is None:
            return node, path[at:]
        node = below
    return node, ()


def child(node: Node, step: str | int) -> Node | None:
    """Return the value of a key, or the item at a position, or None."""
    if isinstance(node, Table) and isinstance(step, str):
        entry = node.entries.get(step)
        return None if entry is None else entry.value
    if isinstance(node, Items) and isinstance(step, int) and 0 <= step < len(node.items):
        return node.items[step]
    return None


def key_of(node: Node, path: Path) -> Scalar | None:
    """Return the key at the end of a path; None if the path does not end in a key."""
    if not path or not isinstance(path[-1], str):
        return None
    above, left = find(node, path[:-1])
    if left or not isinstance(above, Table):
        return None
    entry = above.entries.get(path[-1])
    return None if entry is None else entry.key


def walk(node: Node, path: Path = ()) -> Iterator[tuple[Path, Scalar]]:
    """Yield every scalar with its path."""
    if isinstance(node, Table):
        for name, entry in node.entries.items():
            yield from walk(entry.value, (*path, name))
    elif isinstance(node, Items):
        for at, item in enumerate(node.items):
            yield from walk(item, (*path, at))
    elif isinstance(node, Scalar):
        yield path, node


def type_name(node: Node) -> str:
    """Return the type of a node in words: ``a list``, ``text``, ``a number``."""
    if isinstance(node, Table):
        return "a mapping"
    if isinstance(node, Items):
        return "a list"
    assert isinstance(node, Scalar), "a node is a mapping, a list or a scalar"
    if node.value is None:
        return "nothing"
    if isinstance(node.value, bool):
        return "true or false"
    return "text" if isinstance(node.value, str) else "a number"
