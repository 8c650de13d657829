"""Generate ``remediator-remote``: one file for Python 3.6, from the modules that do the same work on this host.

The modules are written for the Python of the remediator, but use only functions that Python 3.6 has. Missing syntax is
translated: annotations become texts, and imports between the modules disappear. A test parses the result with the
grammar of Python 3.6, and runs it with that interpreter where there is one.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
from collections.abc import Iterator
from functools import cache
from types import ModuleType

from remediator import errors
from remediator.clients.host import disk, disk_changes, folders, quarantine, unit_commands
from remediator.clients.redis import files as redis_files
from remediator.clients.ssh import old_dataclasses, wrapper
from remediator.core import sizes

_MODULES: tuple[tuple[ModuleType, tuple[str, ...]], ...] = (
    (old_dataclasses, ()),
    (errors, ("RemediatorError", "ClientError", "Unreachable", "TimedOut", "Refused", "BadAnswer", "TargetError")),
    (sizes, ()),
    (disk, ()),
    (disk_changes, ()),
    (quarantine, ()),
    (folders, ()),
    (redis_files, ("NEWER_RDB", "rdb_checker", "rdb_finding")),
    (unit_commands, ()),
    (wrapper, ()),
)
"""The modules in their order, each with the names that are taken; without names, all."""


@cache
def wrapper_text() -> str:
    """Return the text of ``remediator-remote``."""
    parts, imports, defined = list[str](), set[str](), set[str]()
    for module, names in _MODULES:
        source = inspect.getsource(module)
        tree = ast.parse(source)
        wanted = [node for node in tree.body if not names or set(names).intersection(_defined(node))]
        for node in wanted:
            if isinstance(node, ast.Import | ast.ImportFrom):
                imports.update(_kept_import(node))
                continue
            for name in _defined(node):
                if name in defined:
                    raise ValueError(f"{module.__name__} defines {name} again")
                defined.add(name)
            if not (isinstance(node, ast.Expr) and node is tree.body[0]):  # the docstring of the module
                parts.append(_translated(source, node))
    head = f'#!/usr/bin/python3 -IS\n"""{inspect.getdoc(wrapper)}"""\n'
    return "\n".join((head, *sorted(imports), "", "\n".join(parts))) + "\n"


@cache
def wrapper_version() -> str:
    """Return the SHA-256 of the text, by which the wrapper names its version."""
    return hashlib.sha256(wrapper_text().encode()).hexdigest()


def _kept_import(node: ast.Import | ast.ImportFrom) -> Iterator[str]:
    """Yield the import, unless it is of this package, of annotations, or of types that only annotations use."""
    module = node.module or "" if isinstance(node, ast.ImportFrom) else ""
    if module.partition(".")[0] not in ("remediator", "__future__", "collections", "typing", "dataclasses"):
        yield ast.unparse(node)


def _defined(node: ast.stmt) -> Iterator[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        yield node.name
    elif isinstance(node, ast.Assign | ast.AnnAssign):
        for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
            if isinstance(target, ast.Name):
                yield target.id


def _translated(source: str, node: ast.stmt) -> str:
    """Return the source of a statement with each annotation as a text, which Python does not evaluate."""
    lines = source.encode().splitlines(keepends=True)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))
    first = min([node.lineno, *(each.lineno for each in getattr(node, "decorator_list", []))])
    text, spans = b"".join(lines), sorted(_annotations(node), key=lambda each: (each.lineno, each.col_offset))
    made, at = b"", starts[first - 1]
    for each in spans:
        begin, end = (
            starts[each.lineno - 1] + each.col_offset,
            starts[(each.end_lineno or 0) - 1] + (each.end_col_offset or 0),
        )
        made += text[at:begin] + repr(ast.unparse(each)).encode()
        at = end
    end = starts[(node.end_lineno or 0) - 1] + (node.end_col_offset or 0)
    comment = text[end : starts[node.end_lineno or 0]]  # the text after the statement on its last line
    between = "\n\n" if isinstance(node, ast.FunctionDef | ast.ClassDef) else ""
    return between + (made + text[at:end] + comment).decode().rstrip("\n")


def _annotations(node: ast.stmt) -> Iterator[ast.expr]:
    for each in ast.walk(node):
        if isinstance(each, ast.FunctionDef) and each.returns is not None:
            yield each.returns
        elif isinstance(each, ast.arg | ast.AnnAssign) and each.annotation is not None:
            yield each.annotation
