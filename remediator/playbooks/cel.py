"""Conditions in playbooks: CEL, the Common Expression Language. No I/O, no loops without end; not Jinja, not Python.

A condition speaks of four things: ``evidence.<id>``, ``steps.<id>``, ``params.<name>`` and ``target``. It is true,
false or *unknown*: what it names was not seen, or cannot be compared. Unknown is never taken for false.

The library (the CEL project's own, in C++) is loaded when the first condition is compiled, and only :func:`_program`
and :func:`_result` know it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, NoReturn

from remediator.errors import ParseError

ROOTS = ("evidence", "params", "steps", "target")
"""What a condition can speak of."""
MAX_LENGTH = 1000
"""Characters. Nesting (32 levels) and work (10,000 iterations) are bounded by the library."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """Whether a condition holds cannot be told, and why. Using it as a boolean is a defect, and raises."""

    reason: str

    def __bool__(self) -> NoReturn:
        raise TypeError("unknown is neither true nor false")


@dataclass(frozen=True, slots=True)
class Reference:
    """A name that a condition uses: ``evidence.ping`` is root ``evidence`` and name ``ping``."""

    root: str
    name: str | None
    """None where all of the root is meant, or the name is computed."""
    column: int
    """Of the root, counted from 1."""
    field: str | None = None
    """What follows the name, as in ``evidence.ping.ok``."""
    compared: str | None = None
    """The literal that all of it is compared with by ``==`` or ``!=``, as it is written."""


@dataclass(frozen=True)
class Condition:
    """A compiled condition."""

    text: str
    _compiled: Any

    def evaluate(self, variables: Mapping[str, Any]) -> bool | Unknown:
        """Whether it holds.

        Args:
            variables: mappings for the :data:`ROOTS`, made of what JSON knows; a missing root counts as empty.
        """
        given = {root: _plain(variables.get(root, {})) for root in ROOTS}
        return _result(self._compiled, given)

    @cached_property
    def references(self) -> tuple[Reference, ...]:
        """Every name that it uses, in order."""
        return tuple(_references(self.text))


@lru_cache(maxsize=4096)
def compile(text: str) -> Condition:
    """A condition, checked as far as can be without values.

    Raises:
        ParseError: no CEL; a name that is not one of :data:`ROOTS`; or not a question of true or false.
    """
    if len(text) > MAX_LENGTH:
        raise ParseError(f"the condition has {len(text)} characters; {MAX_LENGTH} are the most", 1)
    return Condition(text, _program(text))


_environment: Any = None


def _program(text: str) -> Any:
    global _environment
    from cel_expr_python import cel  # noqa: PLC0415 - 8 MB that only conditions need

    if _environment is None:
        dynamic = cel.Type.Map(cel.Type.STRING, cel.Type.DYN)
        _environment = cel.NewEnv(variables={**dict.fromkeys(ROOTS, dynamic), "target": _texts(cel)})
    try:
        compiled = _environment.compile(text)
    except RuntimeError as error:
        raise _mistake(text, str(error)) from None
    kind = compiled.return_type()
    if kind not in (cel.Type.BOOL, cel.Type.DYN):
        hint = "compare it with something, like steps.restart.output.count > 3"
        raise ParseError(f"this is {_kind(kind.name())} and not true or false", 1, hint)
    return compiled


def _texts(cel: Any) -> Any:
    return cel.Type.Map(cel.Type.STRING, cel.Type.STRING)


def _result(compiled: Any, given: Mapping[str, Any]) -> bool | Unknown:
    try:
        result = compiled.eval(data=given)
    except RuntimeError as error:  # values that CEL has no type for
        return Unknown(_reason(str(error)))
    kind, value = result.type().name(), result.value()
    if kind == "BOOL":
        return bool(value)
    if kind in ("ERROR", "UNKNOWN"):
        return Unknown(_reason(str(value)))
    return Unknown(f"it is {_kind(kind)} and not true or false")


def _plain(value: Any) -> Any:
    """The value in types that CEL has: numbers beyond 64 bits become floating, what JSON does not know becomes text."""
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**63 else float(value)
    if isinstance(value, Mapping):
        return {_text(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return _text(value)


def _text(value: Any) -> str:
    return str(value).encode("utf-8", "replace").decode("utf-8")


_KINDS = {
    "INT": "a number",
    "UINT": "a number",
    "DOUBLE": "a number",
    "STRING": "text",
    "LIST": "a list",
    "MAP": "a mapping",
    "NULL": "null",
}


def _kind(name: str) -> str:
    return _KINDS.get(name.partition("<")[0].upper(), f"of type {name.lower()}")


_PLACE = re.compile(r"<input>:(-?\d+):(-?\d+): (.*)")
_UNDECLARED = re.compile(r"undeclared reference to '(\w+)[^']*'")
_UNEXPECTED = re.compile(r"(?:mismatched|extraneous) input '(.*?)' expecting|no viable alternative at input '(.*)'")
_OVERLOAD = re.compile(r"no matching overload for '_?(.*?)_?' applied to '\((.*)\)'")
_HYPHEN = re.compile(r"\.([A-Za-z_]\w*(?:-[A-Za-z_]\w*)+)")


def _mistake(text: str, said: str) -> ParseError:
    """The library's first complaint, as ours: with a column in the whole text, and a hint where we know one."""
    found = _PLACE.search(said)
    if found is None or int(found[1]) < 1:
        limit = "recursion" in said
        return ParseError("it is nested too deeply" if limit else "it is not a condition in CEL", 1)
    before = text.split("\n")[: int(found[1]) - 1]
    column = sum(len(line) + 1 for line in before) + int(found[2])
    message, hint, name = _explained(text, found[3])
    return ParseError(message, _begin(text, name, column), hint)


def _begin(text: str, name: str, column: int) -> int:
    """Where a name begins; the library says where what follows it does."""
    starts = [found.start() + 1 for found in re.finditer(rf"\b{re.escape(name)}\b", text)] if name else []
    return max((start for start in starts if start <= column), default=column)


_PYTHON = {"and": "&&", "or": "||", "not": "!", "True": "true", "False": "false", "None": "null", "is": "=="}


def _explained(text: str, said: str) -> tuple[str, str, str]:
    """The message, the hint, and the name that both are about, if it is one."""
    if name := _UNDECLARED.search(said):
        return _undeclared(text, name[1])
    if unexpected := _UNEXPECTED.search(said):
        found = unexpected[1] or unexpected[2]
        word = next((word for word in ("not", "and", "or", "is") if re.search(rf"\b{word}\b", text)), found)
        hint = f"{word} is written {_PYTHON[word]} in CEL" if word in _PYTHON else ""
        return ("the condition ends too early" if found == "<EOF>" else f"unexpected {found!r}"), hint, ""
    if overload := _OVERLOAD.search(said):
        return f"{overload[1]!r} cannot be applied to ({overload[2]})", "compare values of one type", ""
    if "token recognition error" in said:
        return _unreadable(said.rpartition("at: ")[2].strip().removeprefix("'").removesuffix("'").strip())
    return said.removeprefix("Syntax error: "), "", ""


def _undeclared(text: str, name: str) -> tuple[str, str, str]:
    if name in _PYTHON:
        return f"there is no {name!r} in CEL", f"write {_PYTHON[name]}", name
    if hyphen := _HYPHEN.search(text):
        return f"'-' in {hyphen[1]} means minus", f'write ["{hyphen[1]}"] in brackets', hyphen[1]
    if re.search(rf"\b{name}\s*\(", text):
        return f"there is no function {name!r} in CEL", "", name
    return f"there is no {name!r} here", f"a condition speaks of {', '.join(ROOTS)}", name


def _unreadable(found: str) -> tuple[str, str, str]:
    if found.startswith(("'", '"')):
        return "this quote is never closed", "", ""
    if found == "=":
        return "unexpected '='", "compare with ==", ""
    if found == "$":
        return "unexpected '$'", "nothing is replaced in conditions; write params.<name>", ""
    return f"unexpected {found!r}", "", ""


_MISSING = re.compile(r'Key not found in map : "(.*)"')


def _reason(said: str) -> str:
    if missing := _MISSING.search(said):
        return f"there is no {missing[1]!r}"
    if "No matching overloads" in said:
        return f"values of these types do not go together: {said.rpartition(' : ')[2].replace('_', ' ').strip()}"
    return said.partition(": ")[2] or said


_TOKEN = re.compile(
    r"""(?P<skip>\s+|//[^\n]*)
    |(?P<string>[rRbB]{0,2}(?:\"{3}.*?\"{3}|'{3}.*?'{3}|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'))
    |(?P<name>[A-Za-z_]\w*)
    |(?P<other>\d[\w.]*|.)""",
    re.VERBOSE | re.DOTALL,
)


def _references(text: str) -> list[Reference]:
    tokens = [(str(found.lastgroup), found.group(), found.start()) for found in _TOKEN.finditer(text)]
    tokens = [token for token in tokens if token[0] != "skip"] + [("end", "", 0)] * 6
    found = []
    for at, (kind, word, start) in enumerate(tokens):
        if kind == "name" and word in ROOTS and (at == 0 or tokens[at - 1][1] != "."):
            name, after = _member(tokens, at + 1)
            field, after = _member(tokens, after) if name is not None else (None, after)
            found.append(Reference(word, name, start + 1, field, _compared(tokens, after)))
    return found


_LITERAL = re.compile(r"""true|false|null|[rR]?["'].*|\d.*""", re.DOTALL)


def _compared(tokens: list[tuple[str, str, int]], at: int) -> str | None:
    """The literal after ``==`` or ``!=`` at this place, unless it is part of something longer."""
    if tokens[at][1] + tokens[at + 1][1] not in ("==", "!="):
        return None
    sign, at = ("-", at + 3) if tokens[at + 2][1] == "-" else ("", at + 2)
    if at + 1 >= len(tokens) or tokens[at + 1][1] not in ("", "&", "|", ")", "]", ",", "?", ":"):
        return None
    literal = tokens[at][1]
    return sign + literal if _LITERAL.fullmatch(literal) else None


def _member(tokens: list[tuple[str, str, int]], at: int) -> tuple[str | None, int]:
    """The name in ``.name`` or ``["name"]`` and the place after it; None where neither stands."""
    if tokens[at][1] == "." and tokens[at + 1][0] == "name" and tokens[at + 2][1] != "(":
        return tokens[at + 1][1], at + 2
    if tokens[at][1] == "[" and tokens[at + 1][0] == "string" and tokens[at + 2][1] == "]":
        return tokens[at + 1][1].strip("'\""), at + 3
    return None, at
