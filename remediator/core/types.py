"""Types of the values in playbooks, inventory and settings, and the errors of their validation."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    PlainSerializer,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
)

from remediator.core.clock import format_duration, parse_duration
from remediator.core.matchers import compile_pattern
from remediator.errors import InputError, ParseError


def _to_duration(value: Any) -> Any:
    if isinstance(value, timedelta):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise ValueError(f"{value} has no unit; write a duration like {value:g}s, 5m or 1h30m")
    if not isinstance(value, str):
        raise ValueError("expected a duration like 30s, 5m or 1h30m")
    try:
        return parse_duration(value)
    except InputError as error:
        raise ValueError(str(error)) from None


def _beside_the_file(path: Path, info: ValidationInfo) -> Path:
    base = (info.context or {}).get("base")
    if base is None:
        return path
    joined = Path(base, path)
    shorter = Path(os.path.normpath(joined))
    # people read these paths in plans; behind a symbolic link, ``..`` would lead to another place
    return shorter if ".." in joined.parts and shorter.resolve() == joined.resolve() else joined


DURATION = "^(0|([0-9]+y)?([0-9]+w)?([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?)$"
"""The pattern of a duration, largest unit first, for editors.

It also allows the empty text, which is not a duration.
"""

Duration = Annotated[
    timedelta,
    BeforeValidator(_to_duration),
    PlainSerializer(format_duration, return_type=str),
    WithJsonSchema({"type": "string", "minLength": 1, "pattern": DURATION, "examples": ["5s", "1m30s", "250ms"]}),
]
"""A duration in the notation of Prometheus, for example 1m30s."""

FilePath = Annotated[Path, AfterValidator(_beside_the_file)]
"""The path of a file. A relative path starts at the folder of the file that names it: validate with
``context={"base": folder}``.
"""


class SecretContent:
    """Marks a path in a model: the content of the file is a secret. It is collected from the models, so a new setting
    with this type is redacted everywhere without being named anywhere else."""


SecretFile = Annotated[Path, AfterValidator(_beside_the_file), SecretContent()]
"""The path of a file whose content is a secret. Relative paths as in :data:`FilePath`."""


class Strict(BaseModel):
    """A frozen model in which an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


def _check_positive(length: timedelta) -> timedelta:
    if length <= timedelta(0):
        raise ValueError("must be positive, for example 5s")
    return length


PositiveDuration = Annotated[Duration, AfterValidator(_check_positive)]
"""A duration greater than 0s."""


M = TypeVar("M", bound=BaseModel)


def fitted(model: type[M], given: Mapping[str, Any], what: str) -> M:
    """Build the model of a ``with`` block after the values of the alert were substituted.

    A block that is valid in the playbook can be invalid with these values.

    Raises:
        InputError: the block is invalid; the message is one line with its owner, the key and the reason.
    """
    try:
        return model.model_validate(dict(given))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        key = ".".join(map(str, first["loc"]))
        rule = f"{first['msg'][:1].lower()}{first['msg'][1:]}"
        raise InputError(f"{what}: {key}: {rule}" if key else f"{what}: {rule}") from None


@dataclass(unsafe_hash=True)
class FieldError(ValueError):
    """A value that does not fit its model. The loader adds file, line and column."""

    message: str
    path: tuple[str | int, ...] = ()
    """Keys and positions that lead from the validated value to the wrong one."""
    column: int = 0
    """Column in the text of the wrong value, counted from 1; 0 for the whole value."""
    hint: str = ""
    """How to fix it; may be empty."""
    rule: str = "wrong-value"
    """ID of the diagnostic."""
    at_key: bool = False
    """The key is wrong, not its value."""
    expected: str = ""
    """For a value of the wrong type: the expected type, in words."""

    def __str__(self) -> str:
        return self.message


class FieldErrors(ValueError):
    """Several field errors of one value."""

    def __init__(self, errors: tuple[FieldError, ...]) -> None:
        super().__init__("; ".join(error.message for error in errors))
        self.errors = errors


def raise_all(errors: tuple[FieldError, ...]) -> None:
    """Raise the errors together, if there are any.

    Raises:
        FieldErrors: there is at least one error.
    """
    if errors:
        raise FieldErrors(errors)


def parsed_by(parse: Callable[[str], Any], rule: str) -> Any:
    """Return a validator that accepts a text if ``parse`` does; ``rule`` is the lint rule of its errors."""

    def check(text: str) -> str:
        try:
            parse(text)
        except ParseError as error:
            raise FieldError(error.message, column=error.column, hint=error.hint, rule=rule) from None
        return text

    return AfterValidator(check)


Pattern = Annotated[str, parsed_by(compile_pattern, "bad-pattern")]
"""An RE2 pattern. A value that a playbook gives must match it as a whole."""
