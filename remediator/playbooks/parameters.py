"""Parameters: read values from the labels of an alert.

Labels are untrusted. A label is validated against its parameter before it is used.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from remediator.core.clock import is_duration
from remediator.core.matchers import compile_pattern
from remediator.errors import Conflict
from remediator.playbooks.inventory import Inventory
from remediator.playbooks.model import Parameter, Playbook
from remediator.playbooks.references import REFERENCE, as_text, insert, substitute

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
        raise Conflict(f"unknown service {name[:_SHOWN_LENGTH]!r}; known: {inventory.known_names}")
    return name


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
        lambda found: found.group() if fact_path(found[2]) else insert(found, values, as_text), message
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
        return "unknown" if value is None else as_text(value)

    return REFERENCE.sub(fill, message)
