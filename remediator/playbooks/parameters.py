"""Parameters: read values from the labels of an alert, and substitute them in a playbook.

Labels are untrusted. A label is validated against its parameter, substituted once, and the result is never parsed for
references again. In PromQL, a value can only become the content of the string around it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from remediator.clients.prometheus.promql import escape_pattern, escape_value
from remediator.core.clock import is_duration
from remediator.core.matchers import compile_pattern
from remediator.errors import Conflict, InputError
from remediator.playbooks.inventory import Inventory
from remediator.playbooks.model import Parameter, Playbook

REFERENCE = re.compile(r"\$(\$)?\{([^{}]*)\}")
"""``${name}``; with a second dollar, the text itself."""
FACT = re.compile(r"evidence\.([A-Za-z0-9_-]+)\.facts\.([A-Za-z0-9_.-]+)")
"""The name of a fact in ``escalate.message``: ``${evidence.ID.facts.NAME}``."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff]")
_INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,17})")
_NUMBER = re.compile(r"-?(0|[1-9][0-9]{0,17})(\.[0-9]{1,18})?")
_SHOWN_LENGTH = 60


class _InvalidLabel(Exception):
    """Internal: the reason why a label is not valid."""


def resolve(playbook: Playbook, labels: Mapping[str, str], inventory: Inventory) -> dict[str, Any]:
    """Return the value of each declared parameter for an alert.

    Raises:
        Conflict: a label is missing or not valid; the message names parameter, label, value (shortened) and reason.
    """
    return {name: _value(name, declared, labels, inventory) for name, declared in playbook.parameters.items()}


def _value(name: str, declared: Parameter, labels: Mapping[str, str], inventory: Inventory) -> Any:
    if declared.label is None:
        return declared.value
    given = labels.get(declared.label, "")
    if not given:  # Prometheus treats an empty label as missing
        if declared.default is None:
            raise Conflict(
                f"parameter {name}: the alert has no label {declared.label!r}, and the parameter has no default"
            )
        return declared.default
    try:
        value = _READERS[declared.type](declared, given, inventory)
        if declared.enum is not None and value not in declared.enum:
            raise _InvalidLabel(f"is not one of {', '.join(map(str, declared.enum))}")
    except _InvalidLabel as reason:
        shown = given if len(given) <= _SHOWN_LENGTH else f"{given[:_SHOWN_LENGTH]}…"
        raise Conflict(f"parameter {name}: label {declared.label}={shown!r} {reason}") from None
    return value


def _string(declared: Parameter, given: str, inventory: Inventory) -> str:
    if len(given) > declared.max_length:
        raise _InvalidLabel(f"has {len(given)} characters; the limit is {declared.max_length}")
    if _CONTROL.search(given):
        raise _InvalidLabel("contains control characters")
    if given.startswith("-"):
        raise _InvalidLabel("begins with '-', which a program could read as an option")
    if declared.pattern is not None and compile_pattern(declared.pattern).fullmatch(given) is None:
        raise _InvalidLabel(f"does not match {declared.pattern}")
    return given


def _integer(declared: Parameter, given: str, inventory: Inventory) -> int:
    if not _INTEGER.fullmatch(given):
        raise _InvalidLabel("is not an integer")
    return int(_bounded(declared, int(given)))


def _number(declared: Parameter, given: str, inventory: Inventory) -> float:
    if not _NUMBER.fullmatch(given):
        raise _InvalidLabel("is not a number")
    return _bounded(declared, float(given))


def _bounded(declared: Parameter, number: float) -> float:
    if declared.minimum is not None and number < declared.minimum:
        raise _InvalidLabel(f"is less than {declared.minimum:g}")
    if declared.maximum is not None and number > declared.maximum:
        raise _InvalidLabel(f"is greater than {declared.maximum:g}")
    return number


def _boolean(declared: Parameter, given: str, inventory: Inventory) -> bool:
    if given not in ("true", "false"):
        raise _InvalidLabel("is neither true nor false")
    return given == "true"


def _duration(declared: Parameter, given: str, inventory: Inventory) -> str:
    if not is_duration(given):
        raise _InvalidLabel("is not a duration like 30s or 5m")
    return given


def _service(declared: Parameter, given: str, inventory: Inventory) -> str:
    if given not in inventory:
        raise _InvalidLabel("is not a service of the inventory")
    return given


_READERS: dict[str, Callable[[Parameter, str, Inventory], Any]] = {
    "string": _string,
    "integer": _integer,
    "number": _number,
    "boolean": _boolean,
    "duration": _duration,
    "service": _service,
}


def target(playbook: Playbook, values: Mapping[str, Any], inventory: Inventory) -> str:
    """Return the target of a playbook for these parameters.

    Raises:
        Conflict: the inventory does not contain the service.
    """
    name = str(substitute(playbook.target, values))
    if name not in inventory:
        known = ", ".join(sorted(inventory.services)) or "none"
        raise Conflict(f"unknown service {name[:_SHOWN_LENGTH]!r}; known: {known}")
    return inventory.service(name).name


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
    return REFERENCE.sub(lambda found: _insert(found, values, str), value)


def substitute_all(given: Mapping[str, Any], values: Mapping[str, Any], *, promql: bool = False) -> dict[str, Any]:
    """Return a ``with`` block with its references replaced."""
    return {key: substitute(item, values, promql=promql and key == "query") for key, item in given.items()}


def fact_path(name: str) -> list[str] | None:
    """Return the ID of the diagnosis and the path of the fact that a reference names; None if it names no fact."""
    found = FACT.fullmatch(name)
    return None if found is None else [found[1], *found[2].split(".")]


def fill_message(message: str, values: Mapping[str, Any]) -> str:
    """Return ``escalate.message`` with its parameters filled in. Facts are filled in when the message is sent.

    Raises:
        InputError: a parameter is unknown.
    """
    return REFERENCE.sub(
        lambda found: found.group() if fact_path(found[2]) else _insert(found, values, _as_text), message
    )


def fill_facts(message: str, facts: Mapping[str, Mapping[str, Any]]) -> str:
    """Return a message with its facts filled in; a fact that is not known is written as *unknown*.

    Args:
        message: the result of :func:`fill_message`.
        facts: the facts of each diagnosis, by ID.
    """

    def fill(found: re.Match[str]) -> str:
        path = fact_path(found[2])
        if found[1] is not None or path is None:
            return found.group()
        value: Any = facts
        for part in path:
            value = value.get(part) if isinstance(value, Mapping) else None
        return "unknown" if value is None else _as_text(value)

    return REFERENCE.sub(fill, message)


def _insert(found: re.Match[str], values: Mapping[str, Any], as_text: Callable[[Any], str]) -> str:
    if found[1] is not None:
        return "${" + found[2] + "}"
    return as_text(_lookup(found[2], values))


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
"""A comment may be anywhere, also between an operator and its string, and a quote in it begins no string."""


def _substitute_promql(query: str, values: Mapping[str, Any]) -> str:
    out, at = [], 0
    for string in _STRING.finditer(query):
        out.append(REFERENCE.sub(lambda found: _insert(found, values, _unquoted), query[at : string.start()]))
        at = string.end()
        if string["comment"]:
            out.append(string.group())
            continue
        escape = escape_pattern if string["operator"] in ("=~", "!~") else escape_value
        as_text = _refuse if string["raw"] else lambda value, escape=escape: escape(_as_text(value))
        out.append(REFERENCE.sub(lambda found: _insert(found, values, as_text), string.group()))  # noqa: B023
    out.append(REFERENCE.sub(lambda found: _insert(found, values, _unquoted), query[at:]))
    return "".join(out)


def _unquoted(value: Any) -> str:
    """Return a value for a place outside of quotes: a number or a duration, which cannot become other PromQL."""
    text = _as_text(value)
    if isinstance(value, bool) or not (isinstance(value, int | float) or is_duration(text)):
        raise InputError(f"{text[:_SHOWN_LENGTH]!r} can be used in PromQL only inside quotes")
    return text


def _refuse(value: Any) -> str:
    raise InputError(
        f"{_as_text(value)[:_SHOWN_LENGTH]!r} cannot be used between backticks, where it cannot be escaped"
    )


def _as_text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
