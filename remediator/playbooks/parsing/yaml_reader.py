"""From a file's bytes to nodes: all that YAML allows and playbooks do not is refused here."""

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

from remediator.playbooks.diagnostics import Diagnostic, Severity
from remediator.playbooks.parsing.nodes import Entry, Items, Node, Scalar, Table, Text, kind, plain_value

MAX_BYTES = 1024 * 1024
MAX_DEPTH = 40
MAX_NODES = 50_000
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the C one is ten times as fast, and no different here


class _Refused(Exception):
    def __init__(self, finding: Diagnostic) -> None:
        super().__init__(str(finding))
        self.finding = finding


def read_file(path: FilePath, name: str = "") -> tuple[Node | None, list[Diagnostic]]:
    """A file as nodes, with what is wrong with it. The nodes are there if it could be read at all.

    Args:
        path: the file.
        name: how findings call it; default: the path as given.
    """
    name = name or str(path)
    try:
        raw = path.read_bytes()
    except OSError as error:
        reason = error.strerror or str(error)
        return None, [_whole(name, "unreadable", f"the file cannot be read: {reason}")]
    return read_bytes(raw, name)


def read_bytes(raw: bytes, name: str) -> tuple[Node | None, list[Diagnostic]]:
    """The same for a file's content."""
    if len(raw) > MAX_BYTES:
        return None, [_whole(name, "too-big", f"the file has {len(raw)} bytes; {MAX_BYTES} are the most")]
    try:
        content = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        return None, [_not_utf8(raw, error, name)]
    text = Text.of(name, content)
    try:
        return _compose(text)
    except _Refused as refused:
        return None, [refused.finding]


def _compose(text: Text) -> tuple[Node | None, list[Diagnostic]]:
    _precheck(text)
    composer = _Composer(text)
    try:
        return composer.document(), composer.findings
    except yaml.YAMLError as error:
        return None, [*composer.findings, _syntax(text, error)]


def _whole(name: str, rule: str, message: str, hint: str = "") -> Diagnostic:
    return Diagnostic(name, 0, 0, rule, Severity.ERROR, message, hint)


def _not_utf8(raw: bytes, error: UnicodeDecodeError, name: str) -> Diagnostic:
    before = raw[: error.start]
    line = before.count(b"\n") + 1
    column = len(before[before.rfind(b"\n") + 1 :].decode("utf-8", "replace")) + 1
    utf16 = raw[:2] in (b"\xff\xfe", b"\xfe\xff")
    message = "the file is UTF-16" if utf16 else f"byte 0x{raw[error.start]:02x} is not UTF-8"
    return Diagnostic(name, line, column, "encoding", Severity.ERROR, message, "save the file as UTF-8")


def _precheck(text: Text) -> None:
    if text.content.startswith("\ufeff"):
        place = Scalar(Text.of(text.file, text.content[1:]), 1, 1, 1, None, "", None)
        raise _Refused(place.finding("encoding", "the file begins with a byte order mark", "save it as UTF-8 without"))
    for number, line in enumerate(text.lines, 1):
        indent = re.match(r" *\t[ \t]*(?=[^\s#])", line)
        if indent is not None:
            place = Scalar(text, number, line.index("\t") + 1, 1, None, "", None)
            raise _Refused(place.finding("tab", "a tab indents this line", "YAML is indented with spaces"))


_BRACKET = "a ',', the bracket, or the end of a quote is missing"
_PROBLEMS: tuple[tuple[str, str, str], ...] = (
    ("mapping values are not allowed", "a ':' where no key can be", ""),
    ("block sequence entries are not allowed", "a list cannot begin beside its key", "begin it in the next line"),
    ("did not find expected <document start>", "the document has ended, and here is more", "is a bracket too many?"),
    ("did not find expected node content", "there is nothing here", "give a mapping"),
    ("did not find expected '-' indicator", "this does not fit to the lines above", "is its indentation right?"),
    ("did not find expected key", "this does not fit to the lines above", "are its indentation and quotes right?"),
    ("expected <block end>", "this does not fit to the lines above", "are its indentation and quotes right?"),
    ("found character '\\t'", "a tab is not allowed here", "YAML is indented with spaces"),
    ("cannot start any token", "no text can begin with this character", "put the text into quotes"),
    ("could not find expected ':'", "this line has no ':'", "a key is followed by ': ', an item begins with '- '"),
    ("found unexpected end of stream", "a quote is never closed", ""),
    ("found unexpected document indicator", "a quote is never closed", ""),
    ("found undefined alias", "there is no such anchor", "put a text that begins with * into quotes"),
    ("found unknown escape character", "this backslash is no escape", "double it, or use single quotes"),
    ("control characters are not allowed", "a control character is in the file", "remove it"),
    ("special characters are not allowed", "a control character is in the file", "remove it"),
    ("did not find expected ',' or", "a list or mapping in brackets is not closed", _BRACKET),
    ("expected ',' or", "a list or mapping in brackets is not closed", _BRACKET),
    ("did not find expected alphabetic", "no text can begin with this character", "put the text into quotes"),
    ("expected alphabetic or numeric", "no text can begin with this character", "put the text into quotes"),
)


def _syntax(text: Text, error: yaml.YAMLError) -> Diagnostic:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    problem = str(getattr(error, "problem", None) or getattr(error, "reason", None) or error)
    said, hint = next(((said, hint) for sign, said, hint in _PROBLEMS if sign in problem), (problem, ""))
    context = getattr(error, "context_mark", None)
    if said in _OPENED and context is not None:
        mark = context  # where it was opened tells more than where the parser gave up
    if mark is None:  # the reader's own: it knows a position and no line
        line, column = text.place(int(getattr(error, "position", 0) or 0))
    else:
        line, column = mark.line + 1, mark.column + 1
    if "mapping values" in problem:
        hint = _stray_colon(text.line(line)[: column - 1])
    return Scalar(text, line, column, 1, None, "", None).finding("yaml-syntax", said, hint)


_OPENED = ("a quote is never closed", "a list or mapping in brackets is not closed", "this line has no ':'")


def _stray_colon(before: str) -> str:
    if ": " in before:
        return "put a text that holds ': ' into quotes"
    return "is the indentation right, and has the key above its ': ' with a space?"


class _Composer:
    """Takes the parser's events one by one, so that nothing is built that is not wanted."""

    def __init__(self, text: Text) -> None:
        self.text = text
        self.findings: list[Diagnostic] = []
        self._events: Iterator[Event] = yaml.parse(text.content, Loader=_LOADER)
        self._count = 0

    def document(self) -> Node | None:
        """The only document of the file; None if there is none."""
        next(self._events)
        start = next(self._events)
        if isinstance(start, StreamEndEvent):
            raise _Refused(_whole(self.text.file, "empty-file", "the file is empty"))
        assert isinstance(start, DocumentStartEvent), "a stream is made of documents"
        node = self._node(next(self._events), 0)
        end = next(self._events)
        assert isinstance(end, DocumentEndEvent), "a document has one root"
        following = next(self._events)
        if not isinstance(following, StreamEndEvent):
            place = self._place(following)
            hint = "put each into a file of its own"
            self.findings.append(place.finding("several-documents", "a second document begins here", hint))
        if isinstance(node, Scalar) and node.value is None:
            raise _Refused(_whole(self.text.file, "empty-file", "the file is empty"))
        return node

    def _node(self, event: Event, depth: int) -> Node:
        self._count += 1
        if depth > MAX_DEPTH:
            raise _Refused(self._place(event).finding("too-deep", f"nested more than {MAX_DEPTH} deep"))
        if self._count > MAX_NODES:
            raise _Refused(self._place(event).finding("too-big", f"more than {MAX_NODES} values"))
        self._refuse(event)
        if isinstance(event, MappingStartEvent):
            return self._table(event, depth)
        if isinstance(event, SequenceStartEvent):
            return self._items(event, depth)
        return self._scalar(event)

    def _refuse(self, event: Event) -> None:
        """Anchors and tags: nothing that a playbook needs, and how YAML surprises and explodes."""
        if isinstance(event, AliasEvent):
            hint = "write it out, or put what is shared into a fragment; a text that begins with * needs quotes"
            self._add(event, "alias", f"aliases are not allowed (*{event.anchor})", hint)
        elif anchor := getattr(event, "anchor", None):
            hint = "put what is shared into a fragment; a text that begins with & needs quotes"
            self._add(event, "alias", f"anchors are not allowed (&{anchor})", hint)
        tag = getattr(event, "tag", None)
        if tag and not isinstance(event, AliasEvent):
            shown = tag.replace("tag:yaml.org,2002:", "!!")
            self._add(event, "tag", f"tags are not allowed ({shown})", "a text that begins with ! needs quotes")

    def _table(self, event: Event, depth: int) -> Table:
        entries: dict[str, Entry] = {}
        while not isinstance(key_event := next(self._events), MappingEndEvent):
            key = self._key(key_event, depth)
            value = self._node(next(self._events), depth + 1)
            if key is None:
                continue
            if key.raw in entries:
                message = f"{key.raw!r} is already given in line {entries[key.raw].key.line}"
                hint = "remove one of them; YAML would silently keep the last"
                self.findings.append(key.finding("duplicate-key", message, hint))
                continue
            entries[key.raw] = Entry(key, value)
        place = self._place(event)
        return Table(self.text, place.line, place.column, place.width, entries)

    def _key(self, event: Event, depth: int) -> Scalar | None:
        node = self._node(event, depth + 1)
        if not isinstance(node, Scalar):
            self._add(event, "bad-key", f"{kind(node)} as a key", "a key is text")
            return None
        if node.style is None and node.raw == "<<":
            self._add(event, "alias", "merge keys are not allowed (<<)", "put what is shared into a fragment")
            return None
        if node.value is None and node.style is None:
            self._add(event, "bad-key", "a key is missing before the ':'")
            return None
        return node

    def _items(self, event: Event, depth: int) -> Items:
        items = []
        while not isinstance(following := next(self._events), SequenceEndEvent):
            items.append(self._node(following, depth + 1))
        place = self._place(event)
        return Items(self.text, place.line, place.column, place.width, items)

    def _scalar(self, event: Event) -> Scalar:
        place = self._place(event)
        if not isinstance(event, ScalarEvent):
            return place  # an alias, which is refused already
        style = event.style if event.style in ("'", '"', "|", ">") else None
        value = plain_value(event.value) if style is None else event.value
        return Scalar(self.text, place.line, place.column, place.width, value, event.value, style, place.start)

    def _place(self, event: Event) -> Scalar:
        start, end = event.start_mark, event.end_mark
        if start is None or end is None:
            return Scalar(self.text, 1, 1, 1, None, "", None)
        scalar = isinstance(event, ScalarEvent)
        same = end.line == start.line
        width = end.column - start.column if scalar and same else len(self.text.line(start.line + 1)) - start.column
        return Scalar(self.text, start.line + 1, start.column + 1, max(width, 1), None, "", None, start.index)

    def _add(self, event: Event, rule: str, message: str, hint: str = "") -> None:
        self.findings.append(self._place(event).finding(rule, message, hint))
