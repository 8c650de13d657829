"""Build models from nodes. Pydantic decides what fits, and :mod:`.messages` words the errors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError

from remediator.core.types import FieldError
from remediator.playbooks.parsing.messages import SCALARS, merge_branches, no_value, translate
from remediator.playbooks.parsing.nodes import Entry, Items, Node, Path, Scalar, Table, child, data, find, walk

M = TypeVar("M", bound=BaseModel)
_ACROSS_PARTS = frozenset({"backward-goto", "duplicate-id", "unknown-cause", "unknown-step"})
"""Errors between parts; they are found only once each part is valid."""
_MAX_ROUNDS = 30


def field_errors(model: type[BaseModel], root: Node, base: Any = None, values: Any = None) -> list[FieldError]:
    """Return every error of the nodes for a model; empty if they are valid.

    Args:
        model: the model.
        root: the nodes.
        base: folder of relative files.
        values: data to check instead of the data of the nodes, with the same structure.
    """
    found = _validate(model, root, data(root) if values is None else values, base)
    reported = {error.path for error in found}
    return found + [no_value(path) for path, scalar in walk(root) if scalar.value is None and path not in reported]


def build(model: type[M], root: Node, base: Any = None) -> M | None:
    """Return the model, or None if the nodes are not valid."""
    found = _model_or_error(model, data(root), base)
    return found if isinstance(found, model) else None


@dataclass(frozen=True, slots=True)
class PartialModel(Generic[M]):
    """The remaining content of a file after the wrong parts were removed."""

    model: M | None
    root: Node
    errors: tuple[FieldError, ...]


def build_partial(model: type[M], root: Node, placeholders: Mapping[str, Any]) -> PartialModel[M]:
    """Remove wrong parts until the rest is valid, so that the rest of a file can be checked too.

    Args:
        model: the model.
        root: the nodes; they are not changed.
        placeholders: values for required keys that are missing or wrong.
    """
    pruned, found = _copy(root), list(field_errors(model, root))
    if not found:
        return PartialModel(build(model, root), root, ())
    complete = True
    for _ in range(_MAX_ROUNDS):
        values = data(pruned)
        if isinstance(values, dict):
            values |= {name: value for name, value in placeholders.items() if child(pruned, name) is None}
        errors = _validate(model, pruned, values, None)
        if complete:
            found += [error for error in errors if error.rule in _ACROSS_PARTS and error not in found]
        if not errors:
            made = _model_or_error(model, values, None)
            return PartialModel(made if isinstance(made, model) else None, pruned, tuple(found))
        paths = {error.path for error in errors if error.path}
        if not paths:
            break
        # references to a removed step or cause would look unknown, and later items would have another position
        complete = complete and not any(isinstance(path[-1], int) for path in paths)
        for path in sorted(paths, key=_last_first, reverse=True):
            _remove(pruned, path)
    return PartialModel(None, root, tuple(found))


def _validate(model: type[BaseModel], root: Node, values: Any, base: Any) -> list[FieldError]:
    """Validate twice: strict mode also finds values that pydantic would convert, such as "no" into false."""
    lax = _model_or_error(model, values, base)
    strict = _model_or_error(model, _with_tuples(values), base, strict=True)
    found = list(translate(lax, model, root)) if isinstance(lax, ValidationError) else []
    if isinstance(strict, ValidationError):
        for error in translate(strict, model, root):
            node, left = find(root, error.path)
            if error.expected in SCALARS and not left and isinstance(node, Scalar):
                found.append(error)
    return merge_branches(found, root)


def _with_tuples(value: Any) -> Any:
    """Return lists as tuples, which strict validation requires for the fields of frozen models."""
    if isinstance(value, dict):
        return {key: _with_tuples(item) for key, item in value.items()}
    return tuple(_with_tuples(item) for item in value) if isinstance(value, list) else value


def _model_or_error(model: type[M], values: Any, base: Any, strict: bool = False) -> M | ValidationError:
    try:
        return model.model_validate(values, strict=strict, context={"base": base}, by_alias=True, by_name=False)
    except ValidationError as error:
        return error


def _last_first(path: Path) -> tuple[tuple[int, str], ...]:
    return tuple((step, "") if isinstance(step, int) else (0, step) for step in path)


def _copy(node: Node) -> Node:
    if isinstance(node, Table):
        return replace(
            node, entries={name: Entry(entry.key, _copy(entry.value)) for name, entry in node.entries.items()}
        )
    return replace(node, items=[_copy(item) for item in node.items]) if isinstance(node, Items) else node


def _remove(root: Node, path: Path) -> None:
    above, left = find(root, path[:-1])
    step = path[-1]
    if left:
        return
    if isinstance(above, Table) and isinstance(step, str):
        above.entries.pop(step, None)
    elif isinstance(above, Items) and isinstance(step, int) and step < len(above.items):
        del above.items[step]
