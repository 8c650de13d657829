"""Parameters: how an alert's labels become values, and values enter a playbook.

Data is data: a label is checked against the parameter that declares it, put in once, and what was put in is never
read again. Inside PromQL it can only ever be the content of the string that it stands in.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from remediator.clients.prometheus.promql import escape_pattern, escape_value
from remediator.core.clock import is_duration
from remediator.core.matchers import compile_pattern
from remediator.errors import InputError
from remediator.playbooks.inventory import Inventory
from remediator.playbooks.model import Parameter, Playbook

REFERENCE = re.compile(r"\$(\$)?\{([^{}]*)\}")
"""``${name}``, or with a second dollar the text itself."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff]")
_INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,17})")
_NUMBER = re.compile(r"-?(0|[1-9][0-9]{0,17})(\.[0-9]{1,18})?")
_SHOWN = 60


class _Unfit(Exception):
    """Inside this module: the rule that a label breaks."""


def resolve(playbook: Playbook, labels: Mapping[str, str], inventory: Inventory) -> dict[str, Any]:
    """Every declared parameter's value for an alert.

    Raises:
        InputError: a label is absent or does not fit; names parameter, label, value (cut short) and rule.
    """
    return {name: _value(name, declared, labels, inventory) for name, declared in playbook.parameters.items()}


def _value(name: str, declared: Parameter, labels: Mapping[str, str], inventory: Inventory) -> Any:
    if declared.label is None:
        return declared.value
    given = labels.get(declared.label, "")
    if not given:  # to Prometheus, empty is absent
        if declared.default is None:
            raise InputError(f"parameter {name}: the alert has no label {declared.label!r}, and there is no default")
        return declared.default
    try:
        value = _READ[declared.type](declared, given, inventory)
        if declared.enum is not None and value not in declared.enum:
            raise _Unfit(f"is none of {', '.join(map(str, declared.enum))}")
    except _Unfit as unfit:
        shown = given if len(given) <= _SHOWN else f"{given[:_SHOWN]}…"
        raise InputError(f"parameter {name}: label {declared.label}={shown!r} {unfit}") from None
    return value


def _string(declared: Parameter, given: str, inventory: Inventory) -> str:
    if len(given) > declared.max_length:
        raise _Unfit(f"has {len(given)} characters; {declared.max_length} are the most")
    if _CONTROL.search(given):
        raise _Unfit("has control characters")
    if given.startswith("-"):
        raise _Unfit("begins with '-', which a program could take for an option")
    if declared.pattern is not None and compile_pattern(declared.pattern).fullmatch(given) is None:
        raise _Unfit(f"does not match {declared.pattern}")
    return given


def _integer(declared: Parameter, given: str, inventory: Inventory) -> int:
    if not _INTEGER.fullmatch(given):
        raise _Unfit("is not an integer")
    return int(_bounded(declared, int(given)))


def _number(declared: Parameter, given: str, inventory: Inventory) -> float:
    if not _NUMBER.fullmatch(given):
        raise _Unfit("is not a number")
    return _bounded(declared, float(given))


def _bounded(declared: Parameter, number: float) -> float:
    if declared.minimum is not None and number < declared.minimum:
        raise _Unfit(f"is less than {declared.minimum:g}")
    if declared.maximum is not None and number > declared.maximum:
        raise _Unfit(f"is more than {declared.maximum:g}")
    return number


def _boolean(declared: Parameter, given: str, inventory: Inventory) -> bool:
    if given not in ("true", "false"):
        raise _Unfit("is neither true nor false")
    return given == "true"


def _duration(declared: Parameter, given: str, inventory: Inventory) -> str:
    if not is_duration(given):
        raise _Unfit("is not a duration like 30s or 5m")
    return given


def _service(declared: Parameter, given: str, inventory: Inventory) -> str:
    if given not in inventory:
        raise _Unfit("is not a service of the inventory")
    return given


_READ: dict[str, Callable[[Parameter, str, Inventory], Any]] = {
    "string": _string,
    "integer": _integer,
    "number": _number,
    "boolean": _boolean,
    "duration": _duration,
    "service": _service,
}


def target(playbook: Playbook, values: Mapping[str, Any], inventory: Inventory) -> str:
    """The service that a playbook works on, for these parameters.

    Raises:
        InputError: it is not in the inventory.
    """
    name = str(substitute(playbook.target, values))
    return inventory.service(name).name


def references(value: Any) -> Iterator[str]:
    """The names of the parameters that a value refers to, in strings at any depth."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for item in value:
            yield from references(item)
    elif isinstance(value, str):
        yield from (found[2] for found in REFERENCE.finditer(value) if found[1] is None)


def substitute(value: Any, values: Mapping[str, Any], *, promql: bool = False) -> Any:
    """Replace ``${name}`` once, in strings at any depth; ``$${`` stands for itself. What comes in is not read again.

    A string that is nothing but one reference takes the parameter's own type. In PromQL a value is escaped for the
    string that it stands in; in that of ``=~`` and ``!~`` it also matches only itself.

    Raises:
        InputError: there is no such parameter.
    """
    if isinstance(value, Mapping):
        return {key: substitute(item, values, promql=promql) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [substitute(item, values, promql=promql) for item in value]
    if not isinstance(value, str):
        return value
    if promql:
        return _into_promql(value, values)
    whole = REFERENCE.fullmatch(value)
    if whole is not None and whole[1] is None:
        return _known(whole[2], values)
    return REFERENCE.sub(lambda found: _inserted(found, values, str), value)


def substitute_all(given: Mapping[str, Any], values: Mapping[str, Any], *, promql: bool = False) -> dict[str, Any]:
    """A ``with`` block with its references replaced."""
    return {key: substitute(item, values, promql=promql and key == "query") for key, item in given.items()}


def _inserted(found: re.Match[str], values: Mapping[str, Any], as_text: Callable[[Any], str]) -> str:
    if found[1] is not None:
        return "${" + found[2] + "}"
    return as_text(_known(found[2], values))


def _known(name: str, values: Mapping[str, Any]) -> Any:
    try:
        return values[name]
    except KeyError:
        raise InputError(f"${{{name}}} is not a declared parameter") from None


_PIECE = re.compile(
    r"""(?P<operator>=~|!~|!=|=)?\s*(?P<string>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')|(?P<raw>`[^`]*`)""", re.DOTALL
)


def _into_promql(query: str, values: Mapping[str, Any]) -> str:
    out, at = [], 0
    for piece in _PIECE.finditer(query):
        out.append(REFERENCE.sub(lambda found: _inserted(found, values, _bare), query[at : piece.start()]))
        escape = escape_pattern if piece["operator"] in ("=~", "!~") else escape_value
        as_text = _refused if piece["raw"] else _escaped(escape)
        out.append(REFERENCE.sub(lambda found: _inserted(found, values, as_text), piece.group()))  # noqa: B023
        at = piece.end()
    out.append(REFERENCE.sub(lambda found: _inserted(found, values, _bare), query[at:]))
    return "".join(out)


def _escaped(escape: Callable[[str], str]) -> Callable[[Any], str]:
    return lambda value: escape(_said(value))


def _bare(value: Any) -> str:
    """Outside of quotes only numbers and durations can stand: nothing that could be more PromQL."""
    text = _said(value)
    if isinstance(value, bool) or not (isinstance(value, int | float) or is_duration(text)):
        raise InputError(f"{text[:_SHOWN]!r} may stand in PromQL only inside quotes")
    return text


def _refused(value: Any) -> str:
    raise InputError(f"{_said(value)[:_SHOWN]!r} may not stand between backticks, where nothing can be escaped")


def _said(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
