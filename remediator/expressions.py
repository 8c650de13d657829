"""Conditions in playbooks: the Common Expression Language. No I/O, no loops, bounded; not Jinja and not Python."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from remediator.errors import InputError


@lru_cache(maxsize=1024)
def _compiled(text: str) -> Any:
    from celpy import Environment  # noqa: PLC0415 - 130 ms that only conditions need
    from celpy.celparser import CELParseError  # noqa: PLC0415

    environment = Environment()
    try:
        return environment.program(environment.compile(text))
    except CELParseError as error:
        place = f" at column {error.column}" if error.column else ""
        raise InputError(f"{text!r} is not a CEL expression{place}") from None


def check(text: str) -> None:
    """Refuse what is no expression.

    Raises:
        InputError: with the place.
    """
    _compiled(text)


def evaluate(text: str, variables: Mapping[str, Any]) -> bool | None:
    """Whether a condition holds; None if that cannot be told: something it names is not there, or no boolean."""
    from celpy.adapter import json_to_cel  # noqa: PLC0415
    from celpy.celtypes import BoolType  # noqa: PLC0415
    from celpy.evaluation import CELEvalError  # noqa: PLC0415

    program = _compiled(text)
    try:
        given = {name: json_to_cel(json.loads(json.dumps(value, default=str))) for name, value in variables.items()}
        result = program.evaluate(given)
    except (CELEvalError, ValueError, KeyError, TypeError):
        return None
    return bool(result) if isinstance(result, BoolType | bool) else None
