"""Conditions in playbooks, in CEL (Common Expression Language): no I/O, and every evaluation ends.

A condition can use ``evidence.<id>``, ``steps.<id>``, ``params.<name>``, ``target`` and, in a step, ``cost``. Its
result is true, false or *unknown*. It is unknown if a value is missing or cannot be compared. Unknown is never treated
as false.

The library (from the CEL project, in C++) is loaded with the first condition. Only :func:`_program` and
:func:`_result` use it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, NoReturn

from remediator.errors import ParseError

ROOTS = ("evidence", "params", "steps", "target", "cost")
"""The variables of a condition."""
MAPPING_ROOTS = ("body", "alert")
"""The variables of an expression that maps a notification of a source."""
MAX_LENGTH = 1000
"""Maximum number of characters. The library limits nesting (32 levels) and work (10,000 iterations)."""


@dataclass(frozen=True, slots=True)
class _Language:
    """The name of a kind of text in errors, and the variables that it can use."""

    noun: str
    roots: tuple[str, ...]


_CONDITIONS = _Language("condition", ROOTS)
_MAPPINGS = _Language("expression", MAPPING_ROOTS)


@dataclass(frozen=True, slots=True)
class Unknown:
    """The result of a condition is unknown. Using it as a boolean is a defect, and raises."""

    reason: str

    def __bool__(self) -> NoReturn:
        raise TypeError("the result is unknown, neither true nor false")


@dataclass(frozen=True, slots=True)
class Reference:
    """A name in a condition: ``evidence.ping`` has the root ``evidence`` and the name ``ping``."""

    root: str
    name: str | None
    """The name below the root; None if the condition uses the root as a whole, or computes the name."""
    column: int
    """Column of the root, counted from 1."""
    field: str | None = None
    """The field after the name, as in ``evidence.ping.ok``."""
    compared: str | None = None
    """The literal that it is compared with by ``==`` or ``!=``, as written."""


@dataclass(frozen=True)
class Condition:
    """A compiled condition."""

    text: str
    _compiled: Any

    def evaluate(self, variables: Mapping[str, Any]) -> bool | Unknown:
        """Return whether the condition holds, or :class:`Unknown`.

        Args:
            variables: mappings for the :data:`ROOTS`, with JSON values; a missing root counts as empty.
        """
        given = {root: _to_cel(variables.get(root, {})) for root in ROOTS}
        try:
            result = self._compiled.eval(data=given)
        except RuntimeError as error:  # CEL has no type for a value
            return Unknown(_reason(str(error)))
        kind, value = result.type().name(), result.value()
        if kind == "BOOL":
            return bool(value)
        if kind in ("ERROR", "UNKNOWN"):
            return Unknown(_reason(str(value)))
        return Unknown(f"the condition is {_type_name(kind)}, not true or false")

    @cached_property
    def references(self) -> tuple[Reference, ...]:
        """Return every name in the condition, in order."""
        tokens = _tokens(self.text) + [("end", "", 0)] * 6
        found = []
        for at, (kind, word, start) in enumerate(tokens):
            if kind == "name" and word in ROOTS and (at == 0 or tokens[at - 1][1] != "."):
                name, after = _member(tokens, at + 1)
                field, after = _member(tokens, after) if name is not None else (None, after)
                found.append(Reference(word, name, start + 1, field, _compared(tokens, after)))
        return tuple(found)


@lru_cache(maxsize=4096)
def compile(text: str) -> Condition:
    """Compile a condition.

    Raises:
        ParseError: the text is not CEL, uses a name outside of :data:`ROOTS`, or cannot be true or false.
    """
    _require_bounded(text, _CONDITIONS)
    from cel_expr_python import cel  # noqa: PLC0415 - 8 MB that only conditions need

    dynamic = cel.Type.Map(cel.Type.STRING, cel.Type.DYN)
    target = cel.Type.Map(cel.Type.STRING, cel.Type.STRING)
    compiled = _compiled(text, _CONDITIONS, {**dict.fromkeys(ROOTS, dynamic), "target": target})
    kind = compiled.return_type()
    if kind not in (cel.Type.BOOL, cel.Type.DYN):
        hint = "compare it with a value, for example steps.restart.output.count > 3"
        raise ParseError(f"the condition is {_type_name(kind.name())}, not true or false", 1, hint)
    return Condition(text, compiled)


@dataclass(frozen=True)
class Expression:
    """A compiled expression that maps a notification of a source. It can use ``body`` and ``alert``."""

    text: str
    _compiled: Any

    def evaluate(self, variables: Mapping[str, Any]) -> Any:
        """Return the value as JSON, or :class:`Unknown` with the reason.

        Args:
            variables: the :data:`MAPPING_ROOTS`, with JSON values. One that the expression does not use is not
                converted, which costs time in proportion to its size.
        """
        given = {root: _to_cel(variables[root]) if root in self.used else {} for root in MAPPING_ROOTS}
        try:
            result = self._compiled.eval(data=given)
        except RuntimeError as error:
            return Unknown(_reason(str(error)))
        kind = result.type().name()
        if kind in ("ERROR", "UNKNOWN"):
            return Unknown(_reason(str(result.value())))
        if kind in ("BYTES", "TIMESTAMP", "DURATION", "TYPE"):
            return Unknown(f"the result is of type {kind.lower()}; convert it with string()")
        return result.plain_value()

    @cached_property
    def used(self) -> frozenset[str]:
        """Return the variables that the expression uses."""
        return frozenset(word for word in tokenize(self.text) if word in MAPPING_ROOTS)


@lru_cache(maxsize=4096)
def compile_expression(text: str) -> Expression:
    """Compile an expression of a mapping.

    Raises:
        ParseError: the text is not CEL, or uses a name outside of :data:`MAPPING_ROOTS`.
    """
    from cel_expr_python import cel  # noqa: PLC0415 - 8 MB that only expressions need

    _require_bounded(text, _MAPPINGS)
    return Expression(text, _compiled(text, _MAPPINGS, dict.fromkeys(MAPPING_ROOTS, cel.Type.DYN)))


_MACROS = frozenset({"all", "exists", "exists_one", "filter"})


def _require_bounded(text: str, language: _Language) -> None:
    """Refuse ``map``, and ``+`` inside other macros.

    Both create new texts and lists in each iteration, and the library keeps all of them until the end. A few thousand
    long texts would then take gigabytes.

    Raises:
        ParseError: the text has one of them, or is too long.
    """
    if len(text) > MAX_LENGTH:
        raise ParseError(f"the {language.noun} has {len(text)} characters; the limit is {MAX_LENGTH}", 1)
    opened: list[bool] = []
    before = ["", ""]
    for word in tokenize(text):
        if before == [".", "map"] and word == "(":
            hint = "use exists or all, for example evidence.ping.facts.keys.exists(key, key.bytes > 1000)"
            raise ParseError("the function map is not allowed", 1, hint)
        if word in "([{":
            opened.append(word == "(" and before[0] == "." and before[1] in _MACROS)
        elif word in ")]}" and opened:
            opened.pop()
        elif word == "+" and any(opened):
            hint = "compare the parts instead, for example x > 3 - y"
            raise ParseError("'+' is not allowed inside of all, exists, exists_one and filter", 1, hint)
        before = [before[1], word]


_environments: dict[_Language, Any] = {}


def _compiled(text: str, language: _Language, variables: Mapping[str, Any]) -> Any:
    from cel_expr_python import cel  # noqa: PLC0415 - 8 MB that only conditions need

    if language not in _environments:
        _environments[language] = cel.NewEnv(variables=variables)
    try:
        return _environments[language].compile(text)
    except RuntimeError as error:
        raise _parse_error(text, str(error), language) from None


def _to_cel(value: Any) -> Any:
    """Convert a value to CEL types: integers beyond 64 bits become floats, and other types become text."""
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**63 else float(value)
    if isinstance(value, Mapping):
        return {_text(key): _to_cel(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_to_cel(item) for item in value]
    return _text(value)


def _text(value: Any) -> str:
    return str(value).encode("utf-8", "replace").decode("utf-8")


_TYPE_NAMES = {
    "INT": "a number",
    "UINT": "a number",
    "DOUBLE": "a number",
    "STRING": "text",
    "LIST": "a list",
    "MAP": "a mapping",
    "NULL": "null",
}


def _type_name(name: str) -> str:
    return _TYPE_NAMES.get(name.partition("<")[0].upper(), f"of type {name.lower()}")


_PLACE = re.compile(r"<input>:(-?\d+):(-?\d+): (.*)")
_UNDECLARED = re.compile(r"undeclared reference to '(\w+)[^']*'")
_UNEXPECTED = re.compile(r"(?:mismatched|extraneous) input '(.*?)' expecting|no viable alternative at input '(.*)'")
_OVERLOAD = re.compile(r"no matching overload for '_?(.*?)_?' applied to '\((.*)\)'")
_HYPHEN = re.compile(r"\.([A-Za-z_]\w*(?:-[A-Za-z_]\w*)+)")


def _parse_error(text: str, error: str, language: _Language) -> ParseError:
    """Translate the first error of the library: with the column in the whole text, and with a hint if possible."""
    found = _PLACE.search(error)
    if found is None or int(found[1]) < 1:
        nested = "recursion" in error
        return ParseError(f"the {language.noun} is {'nested too deeply' if nested else 'not valid CEL'}", 1)
    before = text.split("\n")[: int(found[1]) - 1]
    column = sum(len(line) + 1 for line in before) + int(found[2])
    message, hint, name = _translate(text, found[3], language)
    if name:  # the library reports the column after the name
        starts = [match.start() + 1 for match in re.finditer(rf"\b{re.escape(name)}\b", text)]
        column = max((start for start in starts if start <= column), default=column)
    return ParseError(message, column, hint)


_PYTHON = {"and": "&&", "or": "||", "not": "!", "True": "true", "False": "false", "None": "null", "is": "=="}


def _translate(text: str, error: str, language: _Language) -> tuple[str, str, str]:
    """Return the message, the hint, and the name that the error is about, if there is one."""
    if name := _UNDECLARED.search(error):
        return _undeclared(text, name[1], language)
    if unexpected := _UNEXPECTED.search(error):
        found = unexpected[1] or unexpected[2]
        word = next((word for word in ("not", "and", "or", "is") if re.search(rf"\b{word}\b", text)), found)
        hint = f"write {_PYTHON[word]} instead of {word}" if word in _PYTHON else ""
        return (f"the {language.noun} ends too early" if found == "<EOF>" else f"unexpected {found!r}"), hint, ""
    if overload := _OVERLOAD.search(error):
        return f"{overload[1]!r} cannot be applied to ({overload[2]})", "compare values of one type", ""
    if "token recognition error" in error:
        found = error.rpartition("at: ")[2].strip().removeprefix("'").removesuffix("'").strip()
        if found.startswith(("'", '"')):
            return "this quote is not closed", "", ""
        if found == "=":
            return "unexpected '='", "write == to compare", ""
        if found == "$":
            return "unexpected '$'", "conditions do not substitute parameters; write params.<name>", ""
        return f"unexpected {found!r}", "", ""
    return error.removeprefix("Syntax error: "), "", ""


def _undeclared(text: str, name: str, language: _Language) -> tuple[str, str, str]:
    if name in _PYTHON:
        return f"{name!r} is not CEL", f"write {_PYTHON[name]}", name
    if hyphen := _HYPHEN.search(text):
        return f"'-' in {hyphen[1]} means minus", f'write the name in brackets: ["{hyphen[1]}"]', hyphen[1]
    if re.search(rf"\b{name}\s*\(", text):
        return f"unknown function {name!r}", "use the functions of CEL only", name
    article = "an" if language.noun[0] in "aeiou" else "a"
    return f"unknown name {name!r}", f"{article} {language.noun} can use {', '.join(language.roots)}", name


_MISSING = re.compile(r'Key not found in map : "(.*)"')


def _reason(error: str) -> str:
    if missing := _MISSING.search(error):
        return f"there is no {missing[1]!r}"
    if "Applying SELECT" in error:
        return "a field was read from a value that is not a mapping"
    if "Applying SELECT" in error:
        return "a field was read from a value that is not a mapping"
    if "No matching overloads" in error:
        return f"these types cannot be combined: {error.rpartition(' : ')[2].replace('_', ' ').strip()}"
    return error.partition(": ")[2] or error


_TOKEN = re.compile(
    r"""(?P<skip>\s+|//[^\n]*)
    |(?P<string>[rRbB]{0,2}(?:\"{3}.*?\"{3}|'{3}.*?'{3}|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'))
    |(?P<name>[A-Za-z_]\w*)
    |(?P<other>\d[\w.]*|.)""",
    re.VERBOSE | re.DOTALL,
)


def tokenize(text: str) -> list[str]:
    """Return the tokens of a condition, without white space. Each character of an operator is its own token."""
    return [word for _, word, _ in _tokens(text)]


def _tokens(text: str) -> list[tuple[str, str, int]]:
    found = [(str(each.lastgroup), each.group(), each.start()) for each in _TOKEN.finditer(text)]
    return [token for token in found if token[0] != "skip"]


_LITERAL = re.compile(r"""true|false|null|[rR]?["'].*|\d.*""", re.DOTALL)


def _compared(tokens: list[tuple[str, str, int]], at: int) -> str | None:
    """Return the literal after ``==`` or ``!=`` at this place, unless it is a part of a longer expression."""
    if tokens[at][1] + tokens[at + 1][1] not in ("==", "!="):
        return None
    sign, at = ("-", at + 3) if tokens[at + 2][1] == "-" else ("", at + 2)
    if at + 1 >= len(tokens) or tokens[at + 1][1] not in ("", "&", "|", ")", "]", ",", "?", ":"):
        return None
    literal = tokens[at][1]
    return sign + literal if _LITERAL.fullmatch(literal) else None


def _member(tokens: list[tuple[str, str, int]], at: int) -> tuple[str | None, int]:
    """Return the name in ``.name`` or ``["name"]`` and the place after it; None if there is neither."""
    if tokens[at][1] == "." and tokens[at + 1][0] == "name" and tokens[at + 2][1] != "(":
        return tokens[at + 1][1], at + 2
    if tokens[at][1] == "[" and tokens[at + 1][0] == "string" and tokens[at + 2][1] == "]":
        return tokens[at + 1][1].strip("'\""), at + 3
    return None, at
