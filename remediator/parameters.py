"""Parameters: how an alert's labels become values, and values enter a playbook. Data is data: one pass, typed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from remediator.clock import parse_duration
from remediator.errors import InputError
from remediator.inventory import Inventory
from remediator.matchers import compile_pattern
from remediator.playbook import Parameter, Playbook

_REFERENCE = re.compile(r"\$(\$)?\{([a-z0-9_-]+)\}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f\u2028\u2029]")


def resolve(playbook: Playbook, labels: Mapping[str, str], inventory: Inventory) -> dict[str, Any]:
    """Every declared parameter's value for an alert.

    Raises:
        InputError: a label is absent or does not fit; names parameter, label and rule.
    """
    return {name: _value(name, declared, labels, inventory) for name, declared in playbook.parameters.items()}


def _value(name: str, declared: Parameter, labels: Mapping[str, str], inventory: Inventory) -> Any:
    if declared.label is None:
        return declared.value
    given = labels.get(declared.label)
    if given is None:
        if declared.default is None:
            raise InputError(f"parameter {name}: the alert has no label {declared.label!r}, and there is no default")
        return declared.default
    where = f"parameter {name}: label {declared.label}={given[:60]!r}"
    value = _typed(where, declared, given, inventory)
    if declared.enum is not None and value not in declared.enum:
        raise InputError(f"{where} is none of {', '.join(map(str, declared.enum))}")
    return value


def _typed(where: str, declared: Parameter, given: str, inventory: Inventory) -> Any:
    match declared.type:
        case "integer" | "number":
            return _number(where, declared, given)
        case "boolean":
            if given not in ("true", "false"):
                raise InputError(f"{where} is neither true nor false")
            return given == "true"
        case "duration":
            parse_duration(given)
            return given
        case "service":
            inventory.service(given)
            return given
    return _text(where, declared, given)


def _number(where: str, declared: Parameter, given: str) -> int | float:
    try:
        number: int | float = int(given) if declared.type == "integer" else float(given)
    except ValueError:
        raise InputError(f"{where} is not a {declared.type}") from None
    low, high = declared.minimum, declared.maximum
    if number != number or (low is not None and number < low) or (high is not None and number > high):
        raise InputError(f"{where} is not between {low} and {high}")
    return number


def _text(where: str, declared: Parameter, given: str) -> str:
    if len(given) > declared.max_length:
        raise InputError(f"{where} is longer than {declared.max_length} characters")
    if _CONTROL.search(given):
        raise InputError(f"{where} has control characters")
    if given.startswith("-"):
        raise InputError(f"{where} begins with '-', which programs could take for an option")
    if declared.pattern is not None and compile_pattern(declared.pattern).fullmatch(given) is None:
        raise InputError(f"{where} does not match {declared.pattern!r}")
    return given


def target(playbook: Playbook, values: Mapping[str, Any], inventory: Inventory) -> str:
    """The service that a playbook works on, for these parameters.

    Raises:
        InputError: it is not in the inventory.
    """
    name = str(substitute(playbook.target, values))
    return inventory.service(name).name


def substitute(value: Any, values: Mapping[str, Any], *, promql: bool = False) -> Any:
    """Replace ``${name}`` once, in strings at any depth; ``$${`` stands for itself. What comes in is not read again.

    A string that is nothing but one reference takes the parameter's own type.
    """
    if isinstance(value, Mapping):
        return {key: substitute(item, values, promql=promql) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [substitute(item, values, promql=promql) for item in value]
    if not isinstance(value, str):
        return value
    whole = _REFERENCE.fullmatch(value)
    if whole is not None and whole[1] is None and not promql:
        return _known(whole[2], values)
    return _REFERENCE.sub(lambda found: _inserted(found, values, promql), value)


def _inserted(found: re.Match[str], values: Mapping[str, Any], promql: bool) -> str:
    if found[1] is not None:
        return "${" + found[2] + "}"
    text = str(_known(found[2], values))
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("'", "\\'").replace("\n", "\\n") if promql else text


def _known(name: str, values: Mapping[str, Any]) -> Any:
    try:
        return values[name]
    except KeyError:
        raise InputError(f"${{{name}}} is not a declared parameter") from None


def substitute_all(given: Mapping[str, Any], values: Mapping[str, Any], *, promql: bool = False) -> dict[str, Any]:
    """A ``with`` block with its references replaced."""
    return {key: substitute(item, values, promql=promql and key == "query") for key, item in given.items()}
