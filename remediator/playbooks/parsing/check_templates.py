"""Check the templates of discoveries as far as that is possible without a target."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path as FilePath
from typing import Any

from remediator.core.types import FieldError
from remediator.playbooks.diagnostics import Diagnostic
from remediator.playbooks.discovered import example, filled
from remediator.playbooks.inventory import Inventory, Service
from remediator.playbooks.parsing.messages import error_at, types_at
from remediator.playbooks.parsing.nodes import Node, Scalar, find, walk
from remediator.playbooks.parsing.validation import field_errors
from remediator.playbooks.references import references


def check_templates(inventory: Inventory, root: Node, base: FilePath) -> Iterator[Diagnostic]:
    """Yield the errors of the templates, with the values of an example target.

    What depends on a label is checked with the real value, when a target is discovered.
    """
    for name, discovery in inventory.discover.items():
        node = find(root, ("discover", name, "template"))[0]
        values = filled(discovery.template, example(discovery))
        for error in (*field_errors(Service, node, base, values), *_paths(node)):
            at, left = find(node, error.path)
            if left or error.rule == _CHOOSES_PATH or not _has_placeholder(at):
                yield error_at(node, error)


_CHOOSES_PATH = "label-chooses-path"


def _paths(node: Node) -> Iterator[FieldError]:
    """Yield an error for each path of a file that a label would choose (promise 8)."""
    for path, scalar in walk(node):
        if _has_placeholder(scalar) and FilePath in types_at(Service, path):
            message = "a label cannot choose a path"
            hint = "write the path; it is the same for all targets"
            yield FieldError(message, path, hint=hint, rule=_CHOOSES_PATH)


def _has_placeholder(node: Node) -> bool:
    value: Any = node.value if isinstance(node, Scalar) else None
    return any(references(value))
