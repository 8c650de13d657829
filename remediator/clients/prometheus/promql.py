"""PromQL as text: parse it, insert values safely, and find the selectors of an expression.

The grammar comes from the library promql-parser, which is loaded with the first expression.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from remediator.core.matchers import CLASSIC_NAME
from remediator.errors import InputError

_ESCAPES = {"\\": "\\\\", "\n": "\\n", '"': "\\x22", "'": "\\x27", "`": "\\x60"}
_REGEX_SPECIAL = re.compile(r"[\\.+*?()|\[\]{}^$]")
_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_TOKEN = re.compile(
    r"""(?P<skip>\s+|\#[^\n]*)
    |(?P<string>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|`[^`]*`)
    |(?P<number>(?:0x[0-9a-f]+|[0-9]*\.?[0-9]+(?:e[+-]?[0-9]+)?)[a-z0-9]*)
    |(?P<name>[a-z_:][a-z0-9_:]*)
    |(?P<sign>.)""",
    re.VERBOSE | re.IGNORECASE | re.DOTALL,
)
_LISTS = frozenset({"by", "without", "on", "ignoring", "group_left", "group_right"})
_KEYWORDS = _LISTS | {"and", "or", "unless", "atan2", "bool", "offset", "inf", "nan"}

_SECONDS = re.compile(
    r"(?<!\S)(?:offset|[\[:]) ?(?:[-+] )?([0-9][0-9.]*(?:e[+-]?[0-9]+)?|nan|inf)(?!\S)", re.IGNORECASE
)
"""A duration that is a number without a unit, in tokens with spaces between them."""
_LONGEST_SECONDS = 2**63 / 1e9
"""The longest duration that Prometheus can hold: 292 years, as it counts nanoseconds in 64 bits."""


def parse(expression: str) -> Any:
    """Return the syntax tree of an expression, as promql-parser describes it.

    Raises:
        ValueError: the expression is not valid PromQL.
    """
    import promql_parser  # noqa: PLC0415 - only where there is PromQL

    # The library panics on a number of seconds that does not fit, and a panic writes a stack trace.
    for seconds in _SECONDS.findall(" ".join('""' if kind == "string" else text for kind, text in _tokens(expression))):
        if not _is_duration(seconds):
            raise ValueError(f"the duration {seconds} is longer than Prometheus can hold (292 years)")
    return promql_parser.parse(expression)


def _is_duration(seconds: str) -> bool:
    """Return whether a number of seconds fits; the parser reports an unreadable number."""
    try:
        return abs(float(seconds)) < _LONGEST_SECONDS
    except ValueError:
        return True


def escape_value(value: str) -> str:
    """Escape a value for a label matcher with any kind of quotes.

    Quotes become hexadecimal escapes, so that no value can end the string that contains it.
    """
    return "".join(_ESCAPES.get(character, character) for character in value)


def escape_pattern(value: str) -> str:
    """Escape a value for a ``=~`` matcher, so that it matches literally."""
    return escape_value(_REGEX_SPECIAL.sub(lambda found: "\\" + found.group(), value))


def selector(metric: str, labels: Mapping[str, str]) -> str:
    """Return ``metric{name="value",…}`` for these labels.

    Raises:
        InputError: the name of the metric or of a label is not valid.
    """
    for name, kind in ((metric, CLASSIC_NAME), *((label, _LABEL) for label in labels)):
        if not kind.fullmatch(name):
            raise InputError(f"{name!r} is not a valid name in PromQL")
    inside = ",".join(f'{name}="{escape_value(value)}"' for name, value in labels.items())
    return f"{metric}{{{inside}}}" if inside else metric


def selectors(expression: str) -> tuple[str, ...]:
    """Return the vector selectors of an expression, each once, in order, without range and offset.

    This reads tokens, not the grammar, so the expression must be valid.
    """
    tokens = list(_tokens(expression))
    found: list[str] = []
    at = 0
    while at < len(tokens):
        at = _step(tokens, at, found)
    return tuple(dict.fromkeys(found))


def is_comparison(expression: str) -> bool:
    """Return whether an expression filters series by a comparison, so that any result means *true*.

    ``x == 0`` returns each series with the value 0; the existence of a result is the answer. For ``x``,
    ``x == bool 0`` and ``sum(x > 5)``, the value is the answer. ``and`` and ``unless`` return their left side, ``or``
    both sides.
    """
    return _compares(list(_tokens(expression)))


def _compares(tokens: list[tuple[str, str]]) -> bool:
    outside = list(_outside(tokens))
    if len(outside) == 0 and tokens and tokens[0][1] == "(":
        return _compares(tokens[1:-1])
    ors = [at for at in outside if tokens[at][1].lower() == "or"]
    if ors:
        sides = zip([0, *(at + 1 for at in ors)], [*ors, len(tokens)], strict=True)
        return all(_compares(tokens[begin:end]) for begin, end in sides)
    for at in outside:
        if tokens[at][1].lower() in ("and", "unless"):
            return _compares(tokens[:at])
    signs = [at for at in outside if tokens[at][0] == "sign" and tokens[at][1] in "=!<>"]
    return bool(signs) and [text.lower() for _, text in tokens[signs[-1] + 1 : signs[-1] + 2]] != ["bool"]


def _outside(tokens: list[tuple[str, str]]) -> Iterator[int]:
    """Yield the positions of tokens outside brackets."""
    depth = 0
    for at, (kind, text) in enumerate(tokens):
        depth -= kind == "sign" and text in ")]}"
        if depth == 0 and (kind != "sign" or text not in "([{)]}"):
            yield at
        depth += kind == "sign" and text in "([{"


def _tokens(expression: str) -> Iterator[tuple[str, str]]:
    for match in _TOKEN.finditer(expression):
        if match.lastgroup != "skip":
            yield str(match.lastgroup), match.group()


def _step(tokens: list[tuple[str, str]], at: int, found: list[str]) -> int:
    """Read one selector or skip one other element. Return the position after it."""
    kind, text = tokens[at]
    following = tokens[at + 1][1] if at + 1 < len(tokens) else ""
    if text == "{":
        end = _after(tokens, at, "}")
        found.append(_text(tokens[at:end]))
        return end
    if text == "[":
        return _after(tokens, at, "]")
    if kind != "name":
        return at + 1
    if text.lower() in _LISTS and following == "(":
        return _after(tokens, at + 1, ")")
    if text.lower() in _KEYWORDS or following == "(":
        return at + 1
    end = _after(tokens, at + 1, "}") if following == "{" else at + 1
    # in "sum by (x) (…)", the name before "by" or "without" is an operator, not a metric
    if following.lower() not in ("by", "without"):
        found.append(_text(tokens[at:end]))
    return end


def _after(tokens: list[tuple[str, str]], opening: int, closing: str) -> int:
    """Return the position after the closing bracket, or the end if there is none."""
    for at in range(opening, len(tokens)):
        if tokens[at] == ("sign", closing):
            return at + 1
    return len(tokens)


def _text(tokens: list[tuple[str, str]]) -> str:
    return "".join(text for _, text in tokens)
