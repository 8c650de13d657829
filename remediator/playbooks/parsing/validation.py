"""From nodes to models, strictly: pydantic decides what fits, :mod:`.sentences` says what does not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError

from remediator.playbooks.parsing.messages import SCALARS, PathError, nothing, translated, united
from remediator.playbooks.parsing.nodes import Entry, Items, Node, Path, Scalar, Table, child, data, find, walk

M = TypeVar("M", bound=BaseModel)


def faults(model: type[BaseModel], root: Node, base: Any = None, values: Any = None) -> list[PathError]:
    """Every way in which nodes do not fit a model; empty if they do.

    Args:
        model: what they should be.
        root: the nodes.
        base: folder that relative files are in.
        values: the data to check in place of the nodes' own; of the same shape.
    """
    found = _faults(model, root, data(root) if values is None else values, base)
    said = {fault.path for fault in found}
    return found + [nothing(path) for path, scalar in walk(root) if scalar.value is None and path not in said]


def build(model: type[M], root: Node, base: Any = None) -> M | None:
    """The model, or None if the nodes do not fit."""
    found = _validated(model, data(root), base)
    return found if isinstance(found, model) else None


@dataclass(frozen=True, slots=True)
class PartialModel(Generic[M]):
    """What is left of a broken file when all that is wrong is taken out."""

    model: M | None
    root: Node
    faults: tuple[PathError, ...]
    """All that was found on the way: what is wrong between parts shows only once each part is right by itself."""


def salvage(model: type[M], root: Node, needed: Mapping[str, Any], base: Any = None) -> PartialModel[M]:
    """Take out what is wrong until a model is left, so that the rest of a file can be checked too.

    Args:
        model: what it should be.
        root: the nodes; not changed.
        needed: stand-ins for required keys.
        base: folder that relative files are in.
    """
    pruned, seen = _copied(root), list(faults(model, root, base))
    if not seen:
        return PartialModel(build(model, root, base), root, ())
    for _ in range(30):
        stand_ins = {name: value for name, value in needed.items() if child(pruned, name) is None}
        values = data(pruned)
        wrong = _faults(model, pruned, {**values, **stand_ins} if isinstance(values, dict) else values, base)
        seen += [fault for fault in wrong if fault.rule in _BETWEEN and fault not in seen]
        paths = {fault.path for fault in wrong if fault.path}
        if not wrong:
            found = _validated(model, {**values, **stand_ins}, base)
            return PartialModel(found if isinstance(found, model) else None, pruned, tuple(seen))
        if not paths:
            break
        for path in sorted(paths, key=_last_first, reverse=True):
            _remove(pruned, path)
    return PartialModel(None, root, tuple(seen))


_BETWEEN = frozenset({"duplicate-id", "unknown-step", "backward-goto"})
"""What is wrong between parts, and not a consequence of taking some of them out."""


def _faults(model: type[BaseModel], root: Node, values: Any, base: Any) -> list[PathError]:
    lax, strict = _validated(model, values, base), _validated(model, _fixed(values), base, strict=True)
    found = list(translated(lax, model, root)) if isinstance(lax, ValidationError) else []
    if isinstance(strict, ValidationError):
        found += [fault for fault in translated(strict, model, root) if _coerced(fault, root)]
    return united(found, root)


def _coerced(fault: PathError, root: Node) -> bool:
    """Whether pydantic, left to itself, would quietly make one kind of scalar into another: "no" into false."""
    node, left = find(root, fault.path)
    return bool(fault.expected) and fault.expected in SCALARS and not left and isinstance(node, Scalar)


def _fixed(value: Any) -> Any:
    """Lists as tuples, which is what strict validation wants for the fields of frozen models."""
    if isinstance(value, dict):
        return {key: _fixed(item) for key, item in value.items()}
    return tuple(_fixed(item) for item in value) if isinstance(value, list) else value


def _validated(model: type[M], values: Any, base: Any, strict: bool = False) -> M | ValidationError:
    try:
        return model.model_validate(values, strict=strict, context={"base": base}, by_alias=True, by_name=False)
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
