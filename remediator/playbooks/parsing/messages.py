"""What pydantic finds wrong, said again in a person's words, with the place in the file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from remediator.core.types import FieldError, FieldErrors
from remediator.playbooks.diagnostics import Diagnostic, did_you_mean
from remediator.playbooks.parsing.nodes import Node, Path, Scalar, child, find, key_of, kind, surprise


@dataclass(frozen=True, slots=True)
class PathError:
    """One way in which data does not fit a model."""

    path: Path
    """The culprit, or the mapping that misses a key."""
    rule: str
    message: str
    hint: str = ""
    column: int = 0
    at_key: bool = False
    """The key is meant and not its value."""
    expected: str = ""
    """For a wrong kind of value: what kind was expected."""

    def finding(self, root: Node) -> Diagnostic:
        """With its place."""
        node, left = find(root, self.path)
        key = key_of(root, self.path) if self.at_key and not left else None
        return (key or node).finding(self.rule, self.message, self.hint, offset=0 if left else self.column)


def translated(error: ValidationError, model: type[BaseModel], root: Node) -> Iterator[PathError]:
    """Every error of a validation, in words and with its path; of unions, one for each branch."""
    for item in error.errors(include_url=False, include_input=False):
        path = _path(root, item["loc"])
        node, _ = find(root, path)
        say = _SAY.get(item["type"])
        if say is not None:
            yield from say(item, path, node, model)
        elif item["type"] in _KINDS or item["type"] in ("literal_error", "enum"):
            yield _wrong_kind_or_word(item, path, node)
        else:
            yield PathError(path, "wrong-value", f"{subject(path)}: {item['msg'][:1].lower()}{item['msg'][1:]}")


def _path(root: Node, loc: Sequence[str | int]) -> Path:
    """The part of pydantic's location that is in the file: it also names the branches of unions that it tried."""
    path: list[str | int] = []
    node = root
    for step in loc:
        below = child(node, step)
        if below is not None:
            path.append(step)
            node = below
    return tuple(path)


def subject(path: Path) -> str:
    """What a path is about, in words."""
    if not path:
        return "this"
    if isinstance(path[-1], str):
        return repr(path[-1])
    named = next((step for step in reversed(path) if isinstance(step, str)), None)
    return f"an item of {named!r}" if named else "an item"


_KINDS: Mapping[str, str] = {
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


def _wrong_kind_or_word(item: Any, path: Path, node: Node) -> PathError:
    if item["type"] in ("literal_error", "enum"):
        words = _words(item["ctx"]["expected"])
        if isinstance(node, Scalar) and isinstance(node.value, str):
            return _wrong_word(path, node, words)
        return _wrong_kind(path, node, words[0] if len(words) == 1 else f"one of {', '.join(words)}")
    return _wrong_kind(path, node, _KINDS[item["type"]])


def _words(expected: str) -> list[str]:
    return [word.strip().strip("'") for word in expected.replace(" or ", ", ").split(",")]


def _wrong_word(path: Path, node: Scalar, words: Sequence[str]) -> PathError:
    hint = did_you_mean(str(node.value), words)
    hint = hint if hint.startswith("did") else ""
    if str(node.value).startswith("goto "):
        hint = f"write {{goto: {str(node.value)[5:].strip()}}}"
    one_of = words[0] if len(words) == 1 else f"one of {', '.join(words)}"
    return PathError(path, "wrong-value", f"{subject(path)} must be {one_of}, not {_shown(node)}", hint)


def nothing(path: Path) -> PathError:
    """A key or an item without a value: whoever left it open meant something, and not the default."""
    return PathError(path, "no-value", f"{subject(path)} has no value", "give it one, or remove it")


def _wrong_kind(path: Path, node: Node, expected: str) -> PathError:
    if isinstance(node, Scalar) and node.value is None:
        return replace(nothing(path), expected=expected)
    shown = _shown(node) if isinstance(node, Scalar) else kind(node)
    message = f"{subject(path)} must be {expected}, not {shown}"
    return PathError(path, "wrong-type", message, _kind_hint(node, expected), expected=expected)


def _kind_hint(node: Node, expected: str) -> str:
    if not isinstance(node, Scalar):
        return ""
    if expected == "text" and not isinstance(node.value, str):
        return f'put it into quotes: "{node.raw}"'
    if expected in ("a whole number", "a number", "true or false") and isinstance(node.value, str):
        quoted = node.style in ("'", '"') and node.raw.strip("-+").replace(".", "", 1).isdigit()
        return "leave out the quotes" if quoted or node.raw in ("true", "false") else surprise_hint(node)
    if expected == "a list":
        return f"write it as a list: [{node.raw}]"
    return ""


def surprise_hint(node: Node) -> str:
    """Why a scalar that looks like a number or a boolean is none; empty if it does not look like one."""
    why = surprise(node)
    return f"{node.raw} {why}" if why and isinstance(node, Scalar) else ""


def _shown(node: Node) -> str:
    if not isinstance(node, Scalar):
        return kind(node)
    if isinstance(node.value, str):
        return repr(node.value if len(node.value) <= 60 else f"{node.value[:60]}…")
    return node.raw or "nothing"


Say = Callable[[Any, Path, Node, type[BaseModel]], Iterator[PathError]]


def _missing(item: Any, path: Path, node: Node, model: type[BaseModel]) -> Iterator[PathError]:
    name = str(item["loc"][-1])
    described = next((info.description for key, info in _fields(model, path) if key == name), None)
    yield PathError(path, "missing-key", f"{name!r} is missing", described or "")


def _extra(item: Any, path: Path, node: Node, model: type[BaseModel]) -> Iterator[PathError]:
    name = str(path[-1])
    known = _fields(model, item["loc"][:-1]) or _fields(model, path[:-1])
    hint = did_you_mean(name, (key for key, _ in known))
    yield PathError(path, "unknown-key", f"there is no key {name!r} here", hint, at_key=True)


def _value(item: Any, path: Path, node: Node, model: type[BaseModel]) -> Iterator[PathError]:
    error = item["ctx"]["error"]
    mistakes = error.mistakes if isinstance(error, FieldErrors) else (error,)
    for mistake in mistakes:
        if not isinstance(mistake, FieldError):
            yield PathError(path, "wrong-value", f"{subject(path)}: {mistake}")
            continue
        below = (*path, *mistake.at)
        rule = mistake.rule or "wrong-value"
        hint = mistake.hint or surprise_hint(find(node, mistake.at)[0])
        yield PathError(below, rule, mistake.message, hint, mistake.column)


def _pattern(item: Any, path: Path, node: Node, model: type[BaseModel]) -> Iterator[PathError]:
    pattern = item["ctx"]["pattern"]
    key = item["loc"][-1] == "[key]"
    shown = repr(path[-1]) if key else _shown(node)
    if pattern.startswith("^[a-z0-9][a-z0-9"):
        hint = "lower-case letters, digits, - and _; a letter or digit first; at most 63"
        yield PathError(path, "wrong-value", f"{shown} is not a name", hint, at_key=key)
    elif pattern == "^/":
        yield PathError(path, "wrong-value", f"{subject(path)} must begin with /, not {shown}", at_key=key)
    else:
        yield PathError(path, "wrong-value", f"{subject(path)} must look like {pattern}, not {shown}", at_key=key)


def _bound(words: str, key: str) -> Say:
    def say(item: Any, path: Path, node: Node, model: type[BaseModel]) -> Iterator[PathError]:
        limit = item["ctx"][key]
        yield PathError(path, "wrong-value", f"{subject(path)} must be {words} {limit:g}, not {_shown(node)}")

    return say


def _length(words: str, key: str, unit: str) -> Say:
    def say(item: Any, path: Path, node: Node, model: type[BaseModel]) -> Iterator[PathError]:
        limit = item["ctx"][key]
        what = unit if limit != 1 else unit.removesuffix("s")
        yield PathError(path, "wrong-value", f"{subject(path)} must have {words} {limit} {what}")

    return say


def _no_tag(item: Any, path: Path, node: Node, model: type[BaseModel]) -> Iterator[PathError]:
    name = item["ctx"]["discriminator"].strip("'")
    yield PathError(path, "missing-key", f"{name!r} is missing", "it says which kind of thing this is")


def _bad_tag(item: Any, path: Path, node: Node, model: type[BaseModel]) -> Iterator[PathError]:
    name = item["ctx"]["discriminator"].strip("'")
    words = _words(item["ctx"]["expected_tags"])
    below = child(node, name)
    assert isinstance(below, Scalar), "there is a tag, or it would be missing"
    yield _wrong_word((*path, name), below, words)


def _not_json(item: Any, path: Path, node: Node, model: type[BaseModel]) -> Iterator[PathError]:
    yield PathError((), "encoding", "the file holds an escape that is half a character", "write the character itself")


_SAY: Mapping[str, Say] = {
    "missing": _missing,
    "extra_forbidden": _extra,
    "value_error": _value,
    "string_pattern_mismatch": _pattern,
    "string_too_short": _length("at least", "min_length", "characters"),
    "string_too_long": _length("at most", "max_length", "characters"),
    "too_short": _length("at least", "min_length", "items"),
    "too_long": _length("at most", "max_length", "items"),
    "greater_than_equal": _bound("at least", "ge"),
    "greater_than": _bound("more than", "gt"),
    "less_than_equal": _bound("at most", "le"),
    "less_than": _bound("less than", "lt"),
    "union_tag_not_found": _no_tag,
    "union_tag_invalid": _bad_tag,
    "json_invalid": _not_json,
}


def united(found: Sequence[PathError], root: Node) -> list[PathError]:
    """One fault for each place: of the branches of a union, those that meant this kind of value."""
    united: dict[tuple[Path, str], PathError] = {}
    for fault in found:
        others = [other for other in found if other.path[: len(fault.path)] == fault.path and not other.expected]
        if fault.expected and others and any(other is not fault for other in others):
            continue
        key = (fault.path, fault.message if not fault.expected else "")
        before = united.get(key)
        if before is not None and before.expected and fault.expected not in before.expected:
            fault = _wrong_kind(fault.path, find(root, fault.path)[0], f"{before.expected} or {fault.expected}")
        united[key] = fault
    return list(united.values())


def _fields(model: Any, path: Path) -> list[tuple[str, Any]]:
    """The keys that a model knows at a path, with what it says of them; of all branches of a union."""
    kinds = [model]
    for step in path:
        kinds = [below for each in kinds for part in _branches(each) for below in _below(part, step)]
    return [
        (info.alias or name, info)
        for each in kinds
        for part in _branches(each)
        if isinstance(part, type) and issubclass(part, BaseModel)
        for name, info in part.model_fields.items()
    ]


def _branches(kind_: Any) -> list[Any]:
    """The type itself, or what a union or an annotation is made of."""
    if get_origin(kind_) in (Union, UnionType):
        return [part for argument in get_args(kind_) for part in _branches(argument)]
    if get_origin(kind_) is Annotated:
        return _branches(get_args(kind_)[0])
    return [kind_]


def _below(kind_: Any, step: str | int) -> list[Any]:
    """What a model or a container holds under a key or at a position."""
    if isinstance(kind_, type) and issubclass(kind_, BaseModel):
        return [info.annotation for name, info in kind_.model_fields.items() if (info.alias or name) == step]
    container, arguments = get_origin(kind_), get_args(kind_)
    if container is dict and isinstance(step, str):
        return [arguments[1]]
    return [arguments[0]] if container in (tuple, list) and isinstance(step, int) and arguments else []
