"""The rule for a value that a playbook gives to an allowed call."""

from __future__ import annotations

from pydantic import Field, model_validator

from remediator.core.matchers import compile_pattern
from remediator.core.types import FieldError, Pattern, Strict

_LONGEST_TEXT = 1000


class ValueRule(Strict):
    """The rule for a value. A subclass lists the types. A pattern or a list limits a string."""

    type: str = "string"
    pattern: Pattern | None = Field(default=None, description="RE2 pattern that the whole string must match.")
    enum: tuple[str, ...] | None = Field(
        default=None, min_length=1, description="Allowed strings, instead of a pattern."
    )

    @model_validator(mode="after")
    def _bounded(self) -> ValueRule:
        if self.type == "string" and (self.pattern is None) == (self.enum is None):
            raise FieldError("a string needs either pattern or enum", hint="without them, any text would be allowed")
        if self.type != "string" and (self.pattern is not None or self.enum is not None):
            raise FieldError(f"pattern and enum work with type string only, not {self.type}")
        return self

    def fits(self, value: object) -> bool:
        """Return whether this value is allowed."""
        if self.type == "boolean":
            return isinstance(value, bool)
        if not isinstance(value, str) or len(value) > _LONGEST_TEXT or "\0" in value:
            return False
        return value in self.enum if self.enum else bool(compile_pattern(self.pattern or "").fullmatch(value))
