"""The commands that the settings allow by name: argv with named places, each with the values that may be there."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated

from pydantic import Field, model_validator

from remediator.core.matchers import compile_pattern
from remediator.core.types import FieldError, PositiveDuration, Strict
from remediator.errors import InputError, ParseError

_PLACE = re.compile(r"\{([a-z][a-z0-9_]*)\}")


class AllowedCommand(Strict):
    """One program with its arguments. It is run without a shell, without our environment, and its output is capped."""

    argv: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        min_length=1, description="Program (an absolute path) and arguments; {name} as a whole argument is filled in."
    )
    parameters: dict[str, str] = Field(
        default={}, description="Name → RE2 that the whole value has to match. No value may begin with '-'."
    )
    timeout: PositiveDuration = Field(default=timedelta(seconds=30), description="Then it and its children are killed.")
    idempotent: bool = Field(default=False, description="Whether doing it twice is the same as once.")
    destructive: bool = Field(default=True, description="Whether it may lose data.")

    @model_validator(mode="after")
    def _consistent(self) -> AllowedCommand:
        if not self.argv[0].startswith("/"):
            raise FieldError("the program needs an absolute path", ("argv", 0))
        for at, argument in enumerate(self.argv):
            place = _PLACE.fullmatch(argument)
            if place is None and _PLACE.search(argument):
                raise FieldError("a value stands alone in its argument", ("argv", at))
            if place is not None and (at == 0 or place[1] not in self.parameters):
                raise FieldError(f"{argument} is not a declared parameter, or stands for the program", ("argv", at))
        for name, pattern in self.parameters.items():
            try:
                compile_pattern(pattern)
            except ParseError as error:
                raise FieldError(error.message, ("parameters", name), column=error.column, hint=error.hint) from None
        return self

    def filled(self, values: Mapping[str, str]) -> tuple[str, ...]:
        """The argv with these values.

        Raises:
            InputError: one is missing, unknown, or not what it may be.
        """
        if set(values) != set(self.parameters):
            raise InputError(f"the command takes {', '.join(sorted(self.parameters)) or 'no values'}")
        for name, value in values.items():
            if value.startswith("-") or "\0" in value or not compile_pattern(self.parameters[name]).fullmatch(value):
                raise InputError(f"{name}: {value!r} is not allowed; it has to match {self.parameters[name]}")
        return tuple(values[place[1]] if (place := _PLACE.fullmatch(each)) else each for each in self.argv)
