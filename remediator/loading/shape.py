"""From nodes to models, strictly: pydantic decides what fits, :mod:`.sentences` says what does not."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from remediator.loading.nodes import Entry, Items, Node, Path, Table, data, find
from remediator.loading.sentences import Fault, translated

M = TypeVar("M", bound=BaseModel)


def faults(model: type[BaseModel], root: Node, base: Any = None, values: Any = None) -> list[Fault]:
    """Every way in which nodes do not fit a model; empty if they do.

    Args:
        model: what they should be.
        root: the nodes.
        base: folder that relative files are in.
        values: the data to check in place of the nodes' own; of the same shape.
    """
    found = _validated(model, data(root) if values is None else values, base)
    return list(translated(found, model, root)) if isinstance(found, ValidationError) else []


def build(model: type[M], root: Node, base: Any = None) -> M | None:
    """The model, or None if the nodes do not fit."""
    found = _validated(model, data(root), base)
    return found if isinstance(found, model) else None


def salvage(model: type[M], root: Node, needed: Mapping[str, Any], base: Any = None) -> tuple[M | None, Node]:
    """What is left of a broken file when all that is wrong is taken out, so that the rest can be checked too.

    Args:
        model: what it should be.
        root: the nodes; not changed.
        needed: stand-ins for required keys.
        base: folder that relative files are in.
    """
    pruned = _copied(root)
    if not isinstance(pruned, Table):
        return None, root
    stand_ins = {name: value for name, value in needed.items() if name not in pruned.entries}
    for _ in range(30):
        values = {**data(pruned), **stand_ins}
        found = _validated(model, values, base)
        if isinstance(found, model):
            return found, pruned
        assert isinstance(found, ValidationError), "a model or what is wrong"
        paths = {fault.path for fault in translated(found, model, pruned) if fault.path}
        if not paths:
            return None, root
        for path in sorted(paths, key=_last_first, reverse=True):
            _remove(pruned, path)
        stand_ins = {name: value for name, value in needed.items() if name not in pruned.entries}
    return None, root


def _validated(model: type[M], values: Any, base: Any) -> M | ValidationError:
    try:
        text = json.dumps(values)
        return model.model_validate_json(text, strict=True, context={"base": base}, by_alias=True, by_name=False)
    except ValidationError as error:
        return error


def _last_first(path: Path) -> tuple[tuple[int, str], ...]:
    return tuple((step, "") if isinstance(step, int) else (0, step) for step in path)


def _copied(node: Node) -> Node:
    if isinstance(node, Table):
        entries = {name: Entry(entry.key, _copied(entry.value)) for name, entry in node.entries.items()}
        return replace(node, entries=entries)
    if isinstance(node, Items):
        return replace(node, items=[_copied(item) for item in node.items])
    return node


def _remove(root: Node, path: Path) -> None:
    above, left = find(root, path[:-1])
    step = path[-1]
    if left:
        return
    if isinstance(above, Table) and isinstance(step, str):
        above.entries.pop(step, None)
    elif isinstance(above, Items) and isinstance(step, int) and step < len(above.items):
        del above.items[step]
