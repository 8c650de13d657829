"""The declared effect of a command or request in the settings."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field, model_validator

from remediator.core.types import FieldError, Strict


class DeclaredEffects(Strict):
    """The effect of a command or request. An undeclared call counts as destructive, interrupting and mutating."""

    read_only: bool = Field(
        default=False,
        description="Whether it changes nothing. Then it can be used in diagnose, and a command in command.check.",
    )
    idempotent: bool = Field(
        default=False, description="Whether twice has the same effect as once. Then it may be repeated automatically."
    )
    destructive: bool = Field(
        default=True,
        description="Whether it may lose data. Then each call needs an approval for which the approver types the name "
        "of the target.",
    )
    interrupts: bool = Field(
        default=True,
        description="Whether it interrupts the service or its clients. By how much is not measured, so each call needs "
        "an approval.",
    )
    risk: str = Field(
        default="", max_length=300, description="Possible damage or loss, in one sentence, for the approver."
    )
    undo: str | None = Field(
        default=None,
        description="Name of the entry of the same section that undoes it. It gets the values with the same names. "
        "Nobody approves an undo, so that entry must be neither destructive nor interrupting.",
    )

    @property
    def required_values(self) -> frozenset[str]:
        """The values that each call must have. Default: no values."""
        return frozenset()

    @model_validator(mode="after")
    def _read_only_has_no_effect(self) -> DeclaredEffects:
        if self.read_only:
            for name in ("destructive", "interrupts"):
                if name in self.model_fields_set and getattr(self, name):
                    raise FieldError(f"it cannot be read-only and {name}", (name,), hint=f"remove {name} or read_only")
            if self.undo is not None:
                raise FieldError("it is read-only, so there is nothing to undo", ("undo",), hint="remove undo")
        return self


def check_undos(section: str, calls: Mapping[str, DeclaredEffects]) -> None:
    """Check that the undo of every command or request can be made without a person.

    Raises:
        FieldError: an undo is unknown, may do harm, or needs a value that the undone call does not have.
    """
    for name, call in calls.items():
        if call.undo is None:
            continue
        place, undo = (section, name, "undo"), calls.get(call.undo)
        if undo is None:
            raise FieldError(f"unknown undo {call.undo!r}", place, hint=f"add it to {section}")
        if undo.destructive or undo.interrupts:
            message = f"the undo {call.undo!r} is destructive or interrupts, and an undo has no approver"
            hint = f"if it is harmless, write destructive: false and interrupts: false for {section}.{call.undo}"
            raise FieldError(message, place, hint=hint)
        if missing := sorted(undo.required_values - call.required_values):
            message = f"the undo {call.undo!r} needs the value {missing[0]!r}, which {name!r} does not have"
            raise FieldError(message, place, hint="give both the same parameters")
