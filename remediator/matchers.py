"""Alertmanager's label matchers: ``=``, ``!=``, ``=~``, ``!~``; regular expressions are RE2 and fully anchored."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import re2

from remediator.errors import InputError


class Operator(StrEnum):
    """How a label's value is compared."""

    EQUAL = "="
    NOT_EQUAL = "!="
    MATCHES = "=~"
    NOT_MATCHES = "!~"


@dataclass(frozen=True, slots=True)
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
        """Whether an alert with these labels is meant."""
        found = labels.get(self.name, "")
        match self.operator:
            case Operator.EQUAL:
                return found == self.value
            case Operator.NOT_EQUAL:
                return found != self.value
            case Operator.MATCHES:
                return self._pattern.fullmatch(found) is not None
            case Operator.NOT_MATCHES:
                return self._pattern.fullmatch(found) is None

    def __str__(self) -> str:
        escaped = self.value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        return f'{self.name}{self.operator}"{escaped}"'


_SYNTAX = re.compile(
    r'\s*(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<name>[^\s!=~"{},]+))\s*(?P<operator>=~|!~|!=|=)\s*'
    r'(?:"(?P<value>(?:[^"\\]|\\.)*)"|(?P<bare>[^\s"{},]*))\s*'
)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)


def parse_matcher(text: str) -> Matcher:
    """``severity=~"critical|warning"`` as a matcher.

    Raises:
        InputError: not a matcher; the message shows how one is written.
    """
    match = _SYNTAX.fullmatch(text)
    if match is None:
        raise InputError(f'{text!r} is not a matcher; write it like severity="critical" or env=~"prod|demo"')
    quoted, value = match["quoted"], match["value"]
    name = match["name"] if quoted is None else _unescape(quoted)
    return Matcher(name, Operator(match["operator"]), match["bare"] if value is None else _unescape(value))


def _unescape(text: str) -> str:
    return _ESCAPE.sub(lambda found: "\n" if found[1] == "n" else found[1], text)


_QUIET = re2.Options()
_QUIET.log_errors = False


def compile_pattern(pattern: str) -> Any:
    """An RE2 pattern: linear time, whatever the input.

    Raises:
        InputError: RE2 does not take it.
    """
    try:
        return re2.compile(pattern, options=_QUIET)
    except re2.error as error:
        raise InputError(f"{pattern!r} is not a regular expression that RE2 takes: {error}") from None
