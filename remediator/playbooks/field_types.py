"""Types of fields in playbook files."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, WithJsonSchema

from remediator.core.matchers import compile_pattern, parse_matcher
from remediator.core.types import FieldError
from remediator.errors import ParseError
from remediator.playbooks import cel

Mode = Literal["observe", "shadow", "approve", "auto"]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
ParameterType = Literal["string", "integer", "number", "boolean", "duration", "service"]


def parsed_by(parse: Callable[[str], Any], rule: str) -> Any:
    """Return a validator that accepts a text if ``parse`` does; ``rule`` is the lint rule of its errors."""

    def check(text: str) -> str:
        try:
            parse(text)
        except ParseError as error:
            raise FieldError(error.message, column=error.column, hint=error.hint, rule=rule) from None
        return text

    return AfterValidator(check)


def as_list(value: Any) -> Any:
    """Return a single text as a list with this text."""
    return (value,) if isinstance(value, str) else value


MatcherText = Annotated[str, parsed_by(parse_matcher, "bad-matcher")]
Pattern = Annotated[str, parsed_by(compile_pattern, "bad-pattern")]
ConditionText = Annotated[str, parsed_by(cel.compile, "bad-condition")]
ExpressionText = Annotated[str, parsed_by(cel.compile_expression, "bad-expression")]
NAMES = WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]})
"""JSON Schema of one name or a list of names."""
With = Annotated[
    dict[str, Any],
    Field(
        default={}, alias="with", description="Parameters; ${name} is replaced by the value of a declared parameter."
    ),
]
