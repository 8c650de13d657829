"""Put YAML files into one format: indentation, blank lines and line lengths change; content and comments stay."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import yaml
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq

from remediator.core.local_files import replacing
from remediator.errors import InputError
from remediator.playbooks.diagnostics import Severity
from remediator.playbooks.loader import load_error
from remediator.playbooks.parsing.yaml_reader import read_bytes

WIDTH = 120
"""Columns of a line. A longer collection in braces or brackets is written over several lines."""
_NO_LIMIT = 1 << 20  # texts are never broken: where a line of a sentence or an expression ends is the author's choice
_COMMENT = re.compile(r"(?:^|(?<=\s))#.*$", re.MULTILINE)
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def format_text(text: str, name: str) -> str:
    """Return the text of a YAML file in the format. Formatting the result again changes nothing.

    Args:
        text: the content of the file.
        name: the name of the file in error messages.

    Raises:
        InputError: the text has errors, or cannot be formatted without the loss of a comment.
    """
    errors = [item for item in read_bytes(text.encode(), name)[1] if item.severity is Severity.ERROR]
    if errors:
        raise load_error("the file cannot be formatted", errors)
    result = _tidy(text)
    while (shorter := _break_long_collections(result)) != result:
        result = shorter
    # refuse other data and fewer comments, whatever the reason: the author's file is not damaged
    lost = Counter(_comments(text)) - Counter(_comments(result))
    if lost:
        comment = next(iter(lost))
        line = next(number for number, each in enumerate(text.splitlines(), 1) if comment in each)
        raise InputError(f"{name}:{line}: the comment {comment!r} would be lost; put it on a line before a key")
    if yaml.load(text, _LOADER) != yaml.load(result, _LOADER):  # noqa: S506 - the safe loader
        raise InputError(f"{name}: the file cannot be formatted without a change of its content; nothing was written")
    return result


def format_file(path: Path, check: bool) -> bool:
    """Format a file in place. Return whether the format was different.

    Args:
        path: the file.
        check: write nothing.

    Raises:
        InputError: the file cannot be read, formatted or written.
    """
    try:
        text = path.read_bytes().decode("utf-8")
        result = format_text(text, str(path))
        if result != text and not check:
            with replacing(path.resolve()) as file:
                file.write(result.encode())
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8: {error.reason} at byte {error.start}; save it as UTF-8") from None
    except OSError as error:
        raise InputError(f"cannot format {path}: {error.strerror or error}") from None
    return result != text


def _yaml() -> YAML:
    made = YAML()
    made.preserve_quotes = True
    made.width = _NO_LIMIT
    made.brace_single_entry_mapping_in_flow_sequence = True
    made.indent(mapping=2, sequence=4, offset=2)
    return made


def _dump(document: Any) -> str:
    stream = StringIO()
    _yaml().dump(document, stream)
    return stream.getvalue()


def _tidy(text: str) -> str:
    """Return the text with the indentation, the blank lines and the last line of the format."""
    written = _dump(_yaml().load(text))
    # the lines, from 0, of texts after `|` and `>`: their spaces and empty lines are content
    content = {
        line
        for token in yaml.scan(written, _LOADER)
        if isinstance(token, yaml.ScalarToken) and token.style in ("|", ">")
        for line in range(token.start_mark.line + 1, token.end_mark.line)
    }
    lines: list[str] = []
    for number, line in enumerate(written.splitlines()):
        if number in content:
            lines.append(line)
        elif line.strip() or (lines and lines[-1].strip()):
            lines.append(line.rstrip())
    return "\n".join(lines) + "\n"


def _break_long_collections(text: str) -> str:
    """Return the text with the outermost collections of too long lines over several lines."""
    document, lines = _yaml().load(text), text.splitlines()
    too_long = [node for node in _flow_collections(document) if len(lines[node.lc.line]) > WIDTH]
    for node in too_long:
        node.fa.set_block_style()
    return _tidy(_dump(document)) if too_long else text


def _flow_collections(node: Any) -> Iterator[Any]:
    """Yield the outermost collections in braces or brackets that are not empty."""
    if not isinstance(node, CommentedMap | CommentedSeq):
        return
    if node.fa.flow_style():
        if node:
            yield node
        return
    for child in node.values() if isinstance(node, CommentedMap) else node:
        yield from _flow_collections(child)


def _comments(text: str) -> Iterator[str]:
    for match in _COMMENT.finditer(text):
        yield match[0].rstrip()
