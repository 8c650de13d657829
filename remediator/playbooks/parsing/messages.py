"""Translate the errors of pydantic into plain English, with the path in the file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from remediator.core.types import FieldError, FieldErrors
from remediator.playbooks.diagnostics import Diagnostic, did_you_mean, similar_name
from remediator.playbooks.parsing.nodes import Node, Path, Scalar, ambiguity, child, find, key_of, type_name

_TYPES: Mapping[str, str] = {
    "string_type": "text",
    "path_type": "text",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "list_type": "a list",
    "tuple_type": "a list",
    "none_required": "nothing",
}
SCALARS = frozenset({"text", "a whole number", "a number", "true or false"})
_LIMITS: Mapping[str, tuple[str, str]] = {
    "greater_than_equal": ("at least", "ge"),
    "greater_than": ("more than", "gt"),
    "less_than_equal": ("at most", "le"),
    "less_than": ("less than", "lt"),
}
_LENGTHS: Mapping[str, tuple[str, str, str]] = {
    "string_too_short": ("at least", "min_length", "character"),
    "string_too_long": ("at most", "max_length", "character"),
    "too_short": ("at least", "min_length", "item"),
    "too_long": ("at most", "max_length", "item"),
}
_NAME_HINT = "use lower-case letters, digits, - and _, at most 63 characters; begin with a letter or a digit"


def error_at(root: Node, error: FieldError) -> Diagnostic:
    """Return a field error with its place in the file."""
    node, left = find(root, error.path)
    key = key_of(root, error.path) if error.at_key and not left else None
    return (key or node).diagnostic(error.rule, error.message, error.hint, offset=0 if left else error.column)


def translate(error: ValidationError, model: type[BaseModel], root: Node) -> Iterator[FieldError]:
    """Yield every error of a validation in plain English; for a union, one error for each branch."""
    for item in error.errors(include_url=False, include_input=False):
        path: Path = ()
        node = root
        for step in item["loc"]:
            below = child(node, step)
            if below is not None:  # pydantic also names the branches of unions, which the file does not contain
                path, node = (*path, step), below
        yield from _translate(item, path, node, model)


def _translate(item: Any, path: Path, node: Node, model: type[BaseModel]) -> Iterator[FieldError]:
    kind, context, subject = item["type"], item.get("ctx", {}), describe(path)
    if kind in _TYPES:
        yield _wrong_type(path, node, _TYPES[kind])
    elif kind in _LIMITS:
        words, key = _LIMITS[kind]
        yield FieldError(f"{subject} must be {words} {context[key]:g}, not {_shown(node)}", path)
    elif kind in _LENGTHS:
        words, key, unit = _LENGTHS[kind]
        plural = "" if context[key] == 1 else "s"
        yield FieldError(f"{subject} must have {words} {context[key]} {unit}{plural}", path)
    elif kind == "value_error":
        yield from _from_validator(context["error"], path, node)
    elif kind in ("literal_error", "enum"):
        values = _values(context["expected"])
        if isinstance(node, Scalar) and isinstance(node.value, str):
            yield _wrong_word(path, node, values)
        else:
            yield _wrong_type(path, node, _one_of(values))
    else:
        yield from _translate_structure(item, path, node, model)


def _translate_structure(item: Any, path: Path, node: Node, model: type[BaseModel]) -> Iterator[FieldError]:
    kind, context = item["type"], item.get("ctx", {})
    if kind == "missing":
        name = str(item["loc"][-1])
        described = next((info.description for key, info in _known_fields(model, path) if key == name), None)
        yield FieldError(f"missing key {name!r}", path, hint=described or "", rule="missing-key")
    elif kind == "extra_forbidden":
        known = _known_fields(model, item["loc"][:-1]) or _known_fields(model, path[:-1])
        hint = did_you_mean(str(path[-1]), (key for key, _ in known))
        yield FieldError(f"unknown key {path[-1]!r}", path, hint=hint, rule="unknown-key", at_key=True)
    elif kind == "string_pattern_mismatch":
        yield _wrong_form(item, path, node)
    elif kind == "union_tag_not_found":
        name = context["discriminator"].strip("'")
        yield FieldError(f"missing key {name!r}", path, hint=f"{name} selects the type", rule="missing-key")
    elif kind == "union_tag_invalid":
        name = context["discriminator"].strip("'")
        tag = child(node, name)
        assert isinstance(tag, Scalar), "a missing tag is another error"
        yield _wrong_word((*path, name), tag, _values(context["expected_tags"]))
    elif kind == "json_invalid":
        message = "the file contains an escape sequence for half a character"
        yield FieldError(message, (), hint="write the character itself", rule="encoding")
    else:
        yield FieldError(f"{describe(path)}: {item['msg'][:1].lower()}{item['msg'][1:]}", path)


def describe(path: Path) -> str:
    """Describe in words the value at a path."""
    if not path:
        return "this"
    if isinstance(path[-1], str):
        return repr(path[-1])
    name = next((step for step in reversed(path) if isinstance(step, str)), None)
    return f"an item of {name!r}" if name else "an item"


def _values(expected: str) -> list[str]:
    return [word.strip().strip("'") for word in expected.replace(" or ", ", ").split(",")]


def _one_of(values: Sequence[str]) -> str:
    return values[0] if len(values) == 1 else f"one of {', '.join(values)}"


def _wrong_word(path: Path, node: Scalar, values: Sequence[str]) -> FieldError:
    given = str(node.value)
    hint = f"write {{goto: {given[5:].strip()}}}" if given.startswith("goto ") else similar_name(given, values)
    return FieldError(f"{describe(path)} must be {_one_of(values)}, not {_shown(node)}", path, hint=hint)


def no_value(path: Path) -> FieldError:
    """Return the error for a key or an item without a value. Its author meant something other than the default."""
    return FieldError(f"{describe(path)} has no value", path, hint="add a value, or remove it", rule="no-value")


def _wrong_type(path: Path, node: Node, expected: str) -> FieldError:
    if isinstance(node, Scalar) and node.value is None:
        return replace(no_value(path), expected=expected)
    message = f"{describe(path)} must be {expected}, not {_shown(node)}"
    return FieldError(message, path, hint=_type_hint(node, expected), rule="wrong-type", expected=expected)


def _type_hint(node: Node, expected: str) -> str:
    if not isinstance(node, Scalar):
        return ""
    if expected == "text" and not isinstance(node.value, str):
        return f'put it in quotes: "{node.raw}"'
    if expected in SCALARS and isinstance(node.value, str):
        quoted = node.style in ("'", '"') and node.raw.strip("-+").replace(".", "", 1).isdigit()
        return "remove the quotes" if quoted or node.raw in ("true", "false") else _ambiguity_hint(node)
    return f"write [{node.raw}]" if expected == "a list" else ""


def _ambiguity_hint(node: Node) -> str:
    """Return why a value that looks like a number or a boolean is text; empty if it does not look like one."""
    reason = ambiguity(node)
    return f"{node.raw} {reason}" if reason and isinstance(node, Scalar) else ""


def _shown(node: Node) -> str:
    if not isinstance(node, Scalar):
        return type_name(node)
    if isinstance(node.value, str):
        return repr(node.value if len(node.value) <= 60 else f"{node.value[:60]}…")
    return node.raw or "nothing"


def _from_validator(error: ValueError, path: Path, node: Node) -> Iterator[FieldError]:
    """Yield the errors that our own validators raise."""
    for each in error.errors if isinstance(error, FieldErrors) else (error,):
        if isinstance(each, FieldError):
            hint = each.hint or _ambiguity_hint(find(node, each.path)[0])
            yield replace(each, path=(*path, *each.path), hint=hint)
        else:
            text = str(each)
            yield FieldError(f"{describe(path)}{' ' if text.startswith('must ') else ': '}{text}", path)


def _wrong_form(item: Any, path: Path, node: Node) -> FieldError:
    pattern = item["ctx"]["pattern"]
    at_key = item["loc"][-1] == "[key]"
    shown = repr(path[-1]) if at_key else _shown(node)
    if pattern.startswith("^[a-z0-9][a-z0-9"):
        return FieldError(f"{shown} is not a valid name", path, hint=_NAME_HINT, at_key=at_key)
    form = "begin with /" if pattern == "^/" else f"match {pattern}"
    return FieldError(f"{describe(path)} must {form}, not {shown}", path, at_key=at_key)


def merge_branches(found: Sequence[FieldError], root: Node) -> list[FieldError]:
    """Return one error for each place: of the branches of a union, those that expect this type of value."""
    merged: dict[tuple[Path, str], FieldError] = {}
    for error in found:
        below = [other for other in found if other.path[: len(error.path)] == error.path and not other.expected]
        if error.expected and any(other is not error for other in below):
            continue
        key = (error.path, error.message if not error.expected else "")
        before = merged.get(key)
        if before is not None and before.expected and error.expected not in before.expected:
            error = _wrong_type(error.path, find(root, error.path)[0], f"{before.expected} or {error.expected}")
        merged[key] = error
    return list(merged.values())


def types_at(model: Any, path: Path) -> list[Any]:
    """Return the types that a model allows at a path; for a union, of all branches."""
    kinds = [model]
    for step in path:
        kinds = [below for each in kinds for branch in _branches(each) for below in _below(branch, step)]
    return [branch for each in kinds for branch in _branches(each)]


def _known_fields(model: Any, path: Path) -> list[tuple[str, Any]]:
    """Return the keys that a model allows at a path, with their fields; for a union, of all branches."""
    return [
        (info.alias or name, info)
        for branch in types_at(model, path)
        if isinstance(branch, type) and issubclass(branch, BaseModel)
        for name, info in branch.model_fields.items()
    ]


def _branches(annotation: Any) -> list[Any]:
    """Return the branches of a union or of an annotated type; of another type, the type itself."""
    if get_origin(annotation) in (Union, UnionType):
        return [branch for argument in get_args(annotation) for branch in _branches(argument)]
    if get_origin(annotation) is Annotated:
        return _branches(get_args(annotation)[0])
    return [annotation]


def _below(annotation: Any, step: str | int) -> list[Any]:
    """Return the types of a field of a model, or of an item of a container."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [info.annotation for name, info in annotation.model_fields.items() if (info.alias or name) == step]
    container, arguments = get_origin(annotation), get_args(annotation)
    if container in (dict, Mapping) and isinstance(step, str):
        return [arguments[1]]
    return [arguments[0]] if container in (tuple, list) and isinstance(step, int) and arguments else []
