"""Commands that the settings allow by name: argv with placeholders, each with its allowed values."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated

from pydantic import Field, model_validator

from remediator.clients.declared_effects import DeclaredEffects
from remediator.core.matchers import compile_pattern
from remediator.core.types import FieldError, Pattern, PositiveDuration, SecretFile
from remediator.errors import InputError

VariableName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
"""The name of an environment variable."""
_PLACEHOLDER = re.compile(r"\{([a-z][a-z0-9_]*)\}")


class AllowedCommand(DeclaredEffects):
    """A program with its arguments. It runs without a shell and without our environment; its output is limited."""

    argv: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        min_length=1,
        description="Program (absolute path) and arguments; an argument {name} is replaced by a parameter.",
    )
    parameters: dict[str, Pattern] = Field(
        default={},
        description="Parameters: name and RE2 pattern that the whole value must match. No value may start with '-'.",
    )
    timeout: PositiveDuration = Field(
        default=timedelta(seconds=30), description="Timeout; then the program and its children are killed."
    )
    environment: dict[VariableName, str] = Field(
        default={}, description="Environment variables, besides PATH and LC_ALL; without secret values."
    )
    environment_files: dict[VariableName, SecretFile] = Field(
        default={},
        description="Environment variables with secret values: name, and file with the value. Read at each run.",
    )

    on_host: bool = Field(
        default=False,
        description="Whether the command runs on the target's host, by SSH. The allow-list on that host must also "
        "contain it.",
    )

    @property
    def required_values(self) -> frozenset[str]:
        """The values that each call must have."""
        return frozenset(self.parameters)

    @model_validator(mode="after")
    def _consistent(self) -> AllowedCommand:
        if not self.argv[0].startswith("/"):
            raise FieldError("the program must be an absolute path, for example /usr/bin/true", ("argv", 0))
        for at, argument in enumerate(self.argv):
            placeholder = _PLACEHOLDER.fullmatch(argument)
            if placeholder is None and _PLACEHOLDER.search(argument):
                raise FieldError("a placeholder must be the whole argument, for example '{name}'", ("argv", at))
            if placeholder is not None and (at == 0 or placeholder[1] not in self.parameters):
                raise FieldError(
                    f"{argument} is not declared under parameters, or is in the place of the program", ("argv", at)
                )
        for name in ("environment", "environment_files"):
            if self.on_host and getattr(self, name):
                raise FieldError(
                    "the host sets the variables of a command with on_host", (name,), hint=f"remove {name}"
                )
        if twice := sorted(self.environment.keys() & self.environment_files.keys()):
            raise FieldError(f"the variable {twice[0]} is set twice", ("environment", twice[0]))
        return self

    def filled(self, values: Mapping[str, str]) -> tuple[str, ...]:
        """Return argv with these values.

        Raises:
            InputError: a value is missing, unknown or not allowed.
        """
        if set(values) != set(self.parameters):
            raise InputError(f"the command needs exactly these values: {', '.join(sorted(self.parameters)) or 'none'}")
        for name, value in values.items():
            if value.startswith("-") or "\0" in value or not compile_pattern(self.parameters[name]).fullmatch(value):
                raise InputError(f"{name}: {value!r} is not allowed: it must match {self.parameters[name]}")
        return tuple(
            values[placeholder[1]] if (placeholder := _PLACEHOLDER.fullmatch(each)) else each for each in self.argv
        )
