"""Alertmanager's label matchers: ``=``, ``!=``, ``=~``, ``!~``; regular expressions are RE2 and fully anchored.

They are read as Alertmanager 0.27 and later reads them (its *fallback* mode):

- A plain label name takes the classic escapes in its value: ``\\\\``, ``\\"`` and ``\\n``. Any other backslash is a
  plain character, so ``=~"web\\d+"`` works.
- A quoted name, or a name in UTF-8, takes the escapes of Go.

Only a value that its two parsers could read differently is refused: a value without quotes that contains quotes,
braces, commas, operators or backslashes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Any

import re2

from remediator.errors import ParseError


class Operator(StrEnum):
    """How the value of a label is compared."""

    EQUAL = "="
    NOT_EQUAL = "!="
    MATCHES = "=~"
    NOT_MATCHES = "!~"


@dataclass(frozen=True)
class Matcher:
    """One comparison. A label that an alert does not have counts as empty, as everywhere in Prometheus."""

    name: str
    operator: Operator
    value: str
    _pattern: Any = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.operator in (Operator.MATCHES, Operator.NOT_MATCHES):
            object.__setattr__(self, "_pattern", compile_pattern(self.value))

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Return whether the labels of an alert match."""
        return self.accepts(labels.get(self.name, ""))

    def accepts(self, value: str) -> bool:
        """Return whether the value of the label matches; a missing label has the empty value."""
        match self.operator:
            case Operator.EQUAL:
                return value == self.value
            case Operator.NOT_EQUAL:
                return value != self.value
            case Operator.MATCHES:
                if self.literals is not None:
                    return value in self.literals
                return self._pattern.fullmatch(value) is not None
            case Operator.NOT_MATCHES:
                return self._pattern.fullmatch(value) is None

    @cached_property
    def literals(self) -> frozenset[str] | None:
        """Return all values that match, for ``=`` and for ``=~`` with plain alternatives; otherwise None."""
        if self.operator is Operator.EQUAL:
            return frozenset({self.value})
        if self.operator is Operator.MATCHES and _PLAIN.fullmatch(self.value):
            return frozenset(_ESCAPED.sub(r"\1", option) for option in _ALTERNATIVE.findall(self.value))
        return None

    @cached_property
    def prefix(self) -> str:
        """Return the common prefix of all values that match; empty if no common prefix is known."""
        if self.operator is Operator.EQUAL:
            return self.value
        if self.operator is not Operator.MATCHES:
            return ""
        try:
            low, high = self._pattern.possiblematchrange(64)
        except re2.error:  # any text may match
            return ""
        return _common(low, high).decode("utf-8", "ignore")

    def __str__(self) -> str:
        name = self.name if CLASSIC_NAME.fullmatch(self.name) else f'"{_quoted(self.name)}"'
        return f'{name}{self.operator}"{_quoted(self.value)}"'


def equals(name: str, value: str) -> str:
    """Return the text of a matcher for one value. Both are quoted, so that they cannot change the matcher."""
    return str(Matcher(name, Operator.EQUAL, value))


def parse_matcher(text: str) -> Matcher:
    """Parse the text of one matcher, for example ``severity=~"critical|warning"``.

    Raises:
        ParseError: not a matcher; says at which column, and how to write it.
    """
    return _Reader(text).matcher()


def compile_pattern(pattern: str, column: int = 1) -> Any:
    """Compile an RE2 pattern: it needs linear time and bounded memory for every input.

    Args:
        pattern: the regular expression.
        column: column of the pattern in its text, for the error.

    Raises:
        ParseError: RE2 does not accept the pattern.
    """
    try:
        return re2.compile(pattern, options=_OPTIONS)
    except re2.error as error:
        raised = error.args[0] if error.args else b""
        reason = raised.decode("utf-8", "replace") if isinstance(raised, bytes) else str(raised)
        reason = reason.removesuffix(f": {pattern}")
    except UnicodeEncodeError:
        reason = "it is not valid Unicode"
    hint = "RE2 has no look-ahead, no look-behind and no back-references" if _NOT_RE2.search(pattern) else ""
    raise ParseError(f"{pattern!r} is not a regular expression that RE2 takes: {reason}", column, hint)


def example_match(pattern: str) -> str:
    """Return a value that a pattern accepts, from a few simple values; empty if the pattern accepts no such value."""
    compiled, begins = compile_pattern(pattern), _LITERALS.match(pattern)
    starts = (begins[0] if begins else "", "")
    values = (start + sample for start in starts for sample in _SAMPLES)
    return next((value for value in values if compiled.fullmatch(value)), "")


_LITERALS = re.compile(r"(?:[^\\.+*?()|\[\]{}^$](?![+*?{]))*")
"""The literal characters at the start of a pattern."""
_SAMPLES = ("example", "x", "1", "10", "example-1", "example:9100", "10.0.0.1", "example.service", "")
_OPTIONS = re2.Options()
_OPTIONS.log_errors = False
_NOT_RE2 = re.compile(r"\(\?[=!]|\(\?<[=!]|\\[1-9]")
_PLAIN = re.compile(r"(?:[^\\.+*?()|\[\]{}^$]|\\[^\w\s]|\|)*")
_ALTERNATIVE = re.compile(r"(?:^|(?<=\|))(?:[^\\|]|\\.)*", re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
CLASSIC_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
"""A metric or label name that needs no quotes."""
_RESERVED = "{}!=~,\\\"'`"
_CLASSIC_ESCAPES = {"\\": "\\", '"': '"', "n": "\n"}
_GO_ESCAPES = {**_CLASSIC_ESCAPES, "a": "\a", "b": "\b", "f": "\f", "r": "\r", "t": "\t", "v": "\v"}
_GO_NUMBERS = re.compile(r"x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-7]{3})")
_SURPRISES = {"==": "=", "~=": "=~", "=!": "!=", "~!": "!~", "<>": "!="}


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _common(low: bytes, high: bytes) -> bytes:
    """Return the common prefix of all texts between two byte strings."""
    length = next((at for at, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), min(len(low), len(high)))
    return low[:length]


class _Reader:
    """Parser of one matcher, from left to right. ``at`` is the position of the next character, counted from 0."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def matcher(self) -> Matcher:
        name, classic = self._name()
        operator = self._operator()
        self._space()
        place = self.at
        value = self._value(classic)
        self._space()
        if self._next() == ",":
            raise self._mistake("a second matcher after a comma", "write one matcher per list entry")
        if self._next():
            raise self._mistake(f"unexpected {self.text[self.at :]!r} after the matcher", self._quote_hint())
        if operator in (Operator.MATCHES, Operator.NOT_MATCHES):
            compile_pattern(value, place + 1)
        return Matcher(name, operator, value)

    def _name(self) -> tuple[str, bool]:
        self._space()
        if self._next() == '"':
            name = self._string(_GO_ESCAPES, numbers=True)
            classic = False
        else:
            name = self._word()
            classic = CLASSIC_NAME.fullmatch(name) is not None
        if not name:
            raise self._mistake("a label's name is missing" if self.text.strip() else "the matcher is empty")
        return name, classic

    def _operator(self) -> Operator:
        self._space()
        run = re.match(r"[=!~<>]*", self.text[self.at :])
        found = run.group() if run else ""
        if found not in tuple(Operator):
            better = _SURPRISES.get(found, "=, !=, =~ or !~")
            said = f"{found!r} is no operator" if found else "an operator is missing"
            raise self._mistake(said, f"write {better}" if found else f"write one of {better}")
        self.at += len(found)
        return Operator(found)

    def _value(self, classic: bool) -> str:
        if self._next() == '"':
            return self._string(_CLASSIC_ESCAPES if classic else _GO_ESCAPES, numbers=not classic, lax=classic)
        value = self._word()
        if not value:
            hint = 'an absent label is written name=""' if not self._next() else ""
            raise self._mistake("a value is missing", hint or self._quote_hint())
        if self._next() and self._next() in _RESERVED and self._next() != ",":
            raise self._mistake(f"{self._next()!r} in a value without quotes", "put the value into double quotes")
        return value

    def _string(self, escapes: Mapping[str, str], numbers: bool, lax: bool = False) -> str:
        start, out = self.at, []
        self.at += 1
        while (character := self._next()) != '"':
            if not character:
                self.at = start
                raise self._mistake("this quote is never closed")
            self.at += 1
            out.append(character if character != "\\" else self._escape(escapes, numbers, lax))
        self.at += 1
        return "".join(out)

    def _escape(self, escapes: Mapping[str, str], numbers: bool, lax: bool) -> str:
        character = self._next()
        number = _GO_NUMBERS.match(self.text, self.at) if numbers else None
        if number is not None:
            wide = number[2] or number[3]
            code = int(wide or number[1], 16) if wide or number[1] else int(number[4], 8)
            if code > (0x10FFFF if wide else 0x7F) or 0xD800 <= code <= 0xDFFF:
                raise self._mistake(f"'\\{number.group()}' is no character", "write the character itself")
            self.at = number.end()
            return chr(code)
        if character in escapes:
            self.at += 1
            return escapes[character]
        if lax:
            return "\\"  # a single backslash; the next character has no special meaning
        raise self._mistake(f"'\\{character}' is no escape", "write a backslash as \\\\")

    def _word(self) -> str:
        start = self.at
        while (character := self._next()) and not character.isspace() and character not in _RESERVED:
            self.at += 1
        return self.text[start : self.at]

    def _quote_hint(self) -> str:
        if self._next() in ("'", "`"):
            return "values are quoted with double quotes"
        return "a value with spaces or signs must be in double quotes"

    def _space(self) -> None:
        while self._next() and self._next().isspace():
            self.at += 1

    def _next(self) -> str:
        return self.text[self.at : self.at + 1]

    def _mistake(self, message: str, hint: str = "") -> ParseError:
        if self._next() == "{":
            message, hint = "a brace does not belong here", "write each matcher as an entry of the list, without braces"
        return ParseError(message, self.at + 1, hint or 'write it like severity="critical" or env=~"prod|demo"')
