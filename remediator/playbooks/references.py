"""References like ``${name}`` in the texts of playbooks and templates, and the values that replace them.

A value is inserted once, and the result is never parsed for references again. In PromQL, a value can only become the
content of the string around it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from remediator.clients.prometheus.promql import escape_pattern, escape_value
from remediator.core.clock import is_duration
from remediator.errors import InputError

REFERENCE = re.compile(r"\$(\$)?\{([^{}]*)\}")
"""``${name}``; with a second dollar, the text itself."""
_SHOWN_LENGTH = 60


def references(value: Any) -> Iterator[str]:
    """Yield the names of the parameters that a value refers to, in strings at any depth."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for item in value:
            yield from references(item)
    elif isinstance(value, str):
        yield from (found[2] for found in REFERENCE.finditer(value) if found[1] is None)


def substitute(value: Any, values: Mapping[str, Any], *, promql: bool = False) -> Any:
    """Replace ``${name}`` once, in strings at any depth; ``$${`` becomes ``${``. Inserted values are not parsed again.

    A string that is one reference gets the type of the parameter. In PromQL, a value is escaped for the string around
    it. In the pattern of ``=~`` and ``!~``, it is also escaped so that it matches only itself.

    Raises:
        InputError: a parameter is unknown, or cannot be used at this place in PromQL.
    """
    if isinstance(value, Mapping):
        return {key: substitute(item, values, promql=promql) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [substitute(item, values, promql=promql) for item in value]
    if not isinstance(value, str):
        return value
    if promql:
        return _substitute_promql(value, values)
    whole = REFERENCE.fullmatch(value)
    if whole is not None and whole[1] is None:
        return _lookup(whole[2], values)
    return REFERENCE.sub(lambda found: insert(found, values, str), value)


def substitute_all(given: Mapping[str, Any], values: Mapping[str, Any], *, promql: bool = False) -> dict[str, Any]:
    """Return a ``with`` block with its references replaced."""
    return {key: substitute(item, values, promql=promql and key == "query") for key, item in given.items()}


def insert(found: re.Match[str], values: Mapping[str, Any], text_of: Callable[[Any], str]) -> str:
    """Return the replacement of one reference that :data:`REFERENCE` found.

    Raises:
        InputError: its name is unknown.
    """
    if found[1] is not None:
        return "${" + found[2] + "}"
    return text_of(_lookup(found[2], values))


def _lookup(name: str, values: Mapping[str, Any]) -> Any:
    try:
        return values[name]
    except KeyError:
        raise InputError(f"unknown parameter ${{{name}}}") from None


_STRING = re.compile(
    r"""(?:(?P<operator>=~|!~|!=|=)(?:\s|\#[^\n]*)*)?(?P<string>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')
    |(?P<raw>`[^`]*`)
    |(?P<comment>\#[^\n]*)""",
    re.DOTALL | re.VERBOSE,
)
"""A comment may be anywhere, also between an operator and its string; a quote in a comment begins no string."""


def _substitute_promql(query: str, values: Mapping[str, Any]) -> str:
    out, at = [], 0
    for string in _STRING.finditer(query):
        out.append(REFERENCE.sub(lambda found: insert(found, values, _unquoted), query[at : string.start()]))
        at = string.end()
        if string["comment"]:
            out.append(string.group())
            continue
        escape = escape_pattern if string["operator"] in ("=~", "!~") else escape_value
        text_of = _refuse if string["raw"] else lambda value, escape=escape: escape(as_text(value))
        out.append(REFERENCE.sub(lambda found: insert(found, values, text_of), string.group()))  # noqa: B023
    out.append(REFERENCE.sub(lambda found: insert(found, values, _unquoted), query[at:]))
    return "".join(out)


def _unquoted(value: Any) -> str:
    """Return a value for a place outside of quotes: a number or a duration, which cannot become other PromQL."""
    text = as_text(value)
    if isinstance(value, bool) or not (isinstance(value, int | float) or is_duration(text)):
        raise InputError(f"{text[:_SHOWN_LENGTH]!r} can be used in PromQL only inside quotes")
    return text


def _refuse(value: Any) -> str:
    raise InputError(f"{as_text(value)[:_SHOWN_LENGTH]!r} cannot be used between backticks, where it cannot be escaped")


def as_text(value: Any) -> str:
    """Return a value as YAML writes it."""
    return str(value).lower() if isinstance(value, bool) else str(value)
