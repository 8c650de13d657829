"""Types of fields in playbook files."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, WithJsonSchema

from remediator.core.matchers import parse_matcher
from remediator.core.types import parsed_by
from remediator.playbooks import cel

Mode = Literal["observe", "shadow", "approve", "auto"]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
ParameterType = Literal["string", "integer", "number", "boolean", "duration", "service"]


def as_list(value: Any) -> Any:
    """Return a single text as a list with this text."""
    return (value,) if isinstance(value, str) else value


MatcherText = Annotated[str, parsed_by(parse_matcher, "bad-matcher")]
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
