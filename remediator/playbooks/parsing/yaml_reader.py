"""Read a file into nodes, and refuse the parts of YAML that playbooks do not allow."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path as FilePath
from typing import Any

import yaml
from yaml.events import (
    AliasEvent,
    DocumentEndEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
    StreamEndEvent,
)

from remediator.core.local_files import open_regular
from remediator.core.sizes import MEBIBYTE
from remediator.playbooks.diagnostics import Diagnostic, Severity
from remediator.playbooks.parsing.nodes import Entry, Items, Node, Scalar, Table, Text, parse_plain, type_name

MAX_BYTES = MEBIBYTE
MAX_DEPTH = 40
MAX_NODES = 50_000
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the C loader is ten times as fast


class _Refused(Exception):
    def __init__(self, diagnostic: Diagnostic) -> None:
        super().__init__(str(diagnostic))
        self.diagnostic = diagnostic


def read_file(path: FilePath, name: str = "") -> tuple[Node | None, list[Diagnostic]]:
    """Read a file into nodes. Return None and the errors if it cannot be read.

    Args:
        path: the file.
        name: the name in diagnostics; default: the path as given.
    """
    name = name or str(path)
    try:
        with open_regular(path) as file:
            raw = file.read()
    except OSError as error:
        reason = error.strerror or str(error)
        return None, [_whole(name, "unreadable", f"cannot read the file: {reason}")]
    return read_bytes(raw, name)


def read_bytes(raw: bytes, name: str) -> tuple[Node | None, list[Diagnostic]]:
    """Read the content of a file into nodes."""
    if len(raw) > MAX_BYTES:
        return None, [_whole(name, "too-big", f"the file has {len(raw)} bytes; the limit is {MAX_BYTES}")]
    try:
        content = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        return None, [_not_utf8(raw, error, name)]
    text = Text.of(name, content)
    try:
        if text.content.startswith("\ufeff"):
            place = Scalar(Text.of(text.file, text.content[1:]), 1, 1, 1, None, "", None)
            message = "the file begins with a byte order mark"
            raise _Refused(place.diagnostic("encoding", message, "save it as UTF-8 without a byte order mark"))
        for number, line in enumerate(text.lines, 1):
            indent = re.match(r" *\t[ \t]*(?=[^\s#])", line)
            if indent is not None:
                place = Scalar(text, number, line.index("\t") + 1, 1, None, "", None)
                raise _Refused(place.diagnostic("tab", "this line is indented with a tab", "indent with spaces"))
        composer = _Composer(text)
        try:
            return composer.document(), composer.diagnostics
        except yaml.YAMLError as error:
            return None, [*composer.diagnostics, _syntax(text, error)]
    except _Refused as refused:
        return None, [refused.diagnostic]


def _whole(name: str, rule: str, message: str) -> Diagnostic:
    return Diagnostic(name, 0, 0, rule, Severity.ERROR, message)


def _not_utf8(raw: bytes, error: UnicodeDecodeError, name: str) -> Diagnostic:
    before = raw[: error.start]
    line = before.count(b"\n") + 1
    column = len(before[before.rfind(b"\n") + 1 :].decode("utf-8", "replace")) + 1
    utf16 = raw[:2] in (b"\xff\xfe", b"\xfe\xff")
    message = "the file is UTF-16" if utf16 else f"byte 0x{raw[error.start]:02x} is not UTF-8"
    return Diagnostic(name, line, column, "encoding", Severity.ERROR, message, "save the file as UTF-8")


_BRACKET = "add the missing ',', bracket or quote"
_INDENT = "check the indentation and the quotes"
_PROBLEMS: tuple[tuple[str, str, str], ...] = (
    ("mapping values are not allowed", "unexpected ':'", ""),
    ("block sequence entries are not allowed", "a list cannot begin beside its key", "begin it on the next line"),
    ("did not find expected <document start>", "unexpected text after the end of the document", "check the brackets"),
    ("did not find expected node content", "a value is missing", "add the value"),
    ("did not find expected '-' indicator", "this line does not match the lines above", "check the indentation"),
    ("did not find expected key", "this line does not match the lines above", _INDENT),
    ("expected <block end>", "this line does not match the lines above", _INDENT),
    ("found character '\\t'", "a tab is not allowed here", "indent with spaces"),
    ("cannot start any token", "a text cannot begin with this character", "put the text in quotes"),
    ("could not find expected ':'", "this line has no ':'", "write KEY: VALUE, or - ITEM"),
    ("found unexpected end of stream", "this quote is not closed", ""),
    ("found unexpected document indicator", "this quote is not closed", ""),
    ("found undefined alias", "unknown anchor", "put a text that begins with * in quotes"),
    ("found unknown escape character", "unknown escape sequence", "write the backslash twice, or use single quotes"),
    ("control characters are not allowed", "the file contains a control character", "remove it"),
    ("special characters are not allowed", "the file contains a control character", "remove it"),
    ("did not find expected ',' or", "this bracket is not closed", _BRACKET),
    ("expected ',' or", "this bracket is not closed", _BRACKET),
    ("did not find expected alphabetic", "a text cannot begin with this character", "put the text in quotes"),
    ("expected alphabetic or numeric", "a text cannot begin with this character", "put the text in quotes"),
)


_UNCLOSED = ("this quote is not closed", "this bracket is not closed", "this line has no ':'")


def _syntax(text: Text, error: yaml.YAMLError) -> Diagnostic:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    problem = str(getattr(error, "problem", None) or getattr(error, "reason", None) or error)
    message, hint = next(((message, hint) for part, message, hint in _PROBLEMS if part in problem), (problem, ""))
    context = getattr(error, "context_mark", None)
    if message in _UNCLOSED and context is not None:
        mark = context  # the opening is more useful than the place where the parser stopped
    if mark is None:  # an error of the character reader, which knows a position but no line
        line, column = text.place(int(getattr(error, "position", 0) or 0))
    else:
        line, column = mark.line + 1, mark.column + 1
    if "mapping values" in problem:
        before = text.line(line)[: column - 1]
        hint = (
            "put a text that contains ': ' in quotes"
            if ": " in before
            else "check the indentation, and write KEY: VALUE"
        )
    return Scalar(text, line, column, 1, None, "", None).diagnostic("yaml-syntax", message, hint)


class _Composer:
    """Build nodes from the parser's events, one by one. Refused input builds no nodes."""

    def __init__(self, text: Text) -> None:
        self.text = text
        self.diagnostics: list[Diagnostic] = []
        self._events: Iterator[Event] = yaml.parse(text.content, Loader=_LOADER)
        self._count = 0

    def document(self) -> Node | None:
        """Return the only document of the file."""
        next(self._events)
        start = next(self._events)
        if isinstance(start, StreamEndEvent):
            raise _Refused(_whole(self.text.file, "empty-file", "the file is empty"))
        assert isinstance(start, DocumentStartEvent), "a stream consists of documents"
        node = self._node(next(self._events), 0)
        end = next(self._events)
        assert isinstance(end, DocumentEndEvent), "a document has one root"
        following = next(self._events)
        if not isinstance(following, StreamEndEvent):
            place = self._place(following)
            hint = "use one file for each document"
            self.diagnostics.append(place.diagnostic("several-documents", "a second document begins here", hint))
        if isinstance(node, Scalar) and node.value is None:
            raise _Refused(_whole(self.text.file, "empty-file", "the file is empty"))
        return node

    def _node(self, event: Event, depth: int) -> Node:
        self._count += 1
        if depth > MAX_DEPTH:
            raise _Refused(self._place(event).diagnostic("too-deep", f"nested more than {MAX_DEPTH} levels deep"))
        if self._count > MAX_NODES:
            raise _Refused(self._place(event).diagnostic("too-big", f"the file has more than {MAX_NODES} values"))
        self._refuse(event)
        if isinstance(event, MappingStartEvent):
            return self._table(event, depth)
        if isinstance(event, SequenceStartEvent):
            items = []
            while not isinstance(following := next(self._events), SequenceEndEvent):
                items.append(self._node(following, depth + 1))
            place = self._place(event)
            return Items(self.text, place.line, place.column, place.width, items)
        place = self._place(event)
        if not isinstance(event, ScalarEvent):
            return place  # aliases were refused earlier
        style = event.style if event.style in ("'", '"', "|", ">") else None
        value = parse_plain(event.value) if style is None else event.value
        return Scalar(self.text, place.line, place.column, place.width, value, event.value, style, place.start)

    def _refuse(self, event: Event) -> None:
        """Refuse anchors, aliases and tags: an alias can expand without limit, and a tag can create objects."""
        if isinstance(event, AliasEvent):
            hint = "repeat the value, or move it into a fragment; put a text that begins with * in quotes"
            self._add(event, "alias", f"aliases are not allowed (*{event.anchor})", hint)
        elif anchor := getattr(event, "anchor", None):
            hint = "move the shared part into a fragment; put a text that begins with & in quotes"
            self._add(event, "alias", f"anchors are not allowed (&{anchor})", hint)
        tag = getattr(event, "tag", None)
        if tag and not isinstance(event, AliasEvent):
            shown = tag.replace("tag:yaml.org,2002:", "!!")
            self._add(event, "tag", f"tags are not allowed ({shown})", "put a text that begins with ! in quotes")

    def _table(self, event: Event, depth: int) -> Table:
        entries: dict[str, Entry] = {}
        while not isinstance(key_event := next(self._events), MappingEndEvent):
            key = self._key(key_event, depth)
            value = self._node(next(self._events), depth + 1)
            if key is None:
                continue
            if key.raw in entries:
                message = f"duplicate key {key.raw!r}, first used in line {entries[key.raw].key.line}"
                hint = "remove one of the two; YAML would silently use the last one"
                self.diagnostics.append(key.diagnostic("duplicate-key", message, hint))
                continue
            entries[key.raw] = Entry(key, value)
        place = self._place(event)
        return Table(self.text, place.line, place.column, place.width, entries)

    def _key(self, event: Event, depth: int) -> Scalar | None:
        node = self._node(event, depth + 1)
        if not isinstance(node, Scalar):
            self._add(event, "bad-key", f"a key must be text, not {type_name(node)}")
            return None
        if node.style is None and node.raw == "<<":
            self._add(event, "alias", "merge keys are not allowed (<<)", "move the shared part into a fragment")
            return None
        if node.value is None and node.style is None:
            self._add(event, "bad-key", "missing key before ':'")
            return None
        return node

    def _place(self, event: Event) -> Scalar:
        start, end = event.start_mark, event.end_mark
        if start is None or end is None:
            return Scalar(self.text, 1, 1, 1, None, "", None)
        scalar = isinstance(event, ScalarEvent)
        same = end.line == start.line
        width = end.column - start.column if scalar and same else len(self.text.line(start.line + 1)) - start.column
        return Scalar(self.text, start.line + 1, start.column + 1, max(width, 1), None, "", None, start.index)

    def _add(self, event: Event, rule: str, message: str, hint: str = "") -> None:
        self.diagnostics.append(self._place(event).diagnostic(rule, message, hint))
