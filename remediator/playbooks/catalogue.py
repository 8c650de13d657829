"""What playbooks may name: actions, checks and guards, with the models of their settings. The registry fills it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ValidationError


@dataclass(frozen=True, slots=True)
class ActionTraits:
    """What an action declares of itself."""

    mutates: bool = True
    idempotent: bool = False
    reversible: bool = False
    destructive: bool = False
    summary: str = ""
    requires_approval: bool = False


@dataclass(frozen=True, slots=True)
class Catalogue:
    """What this installation offers to playbooks."""

    actions: Mapping[str, type[BaseModel]]
    checks: Mapping[str, type[BaseModel]]
    guards: Mapping[str, type[BaseModel]]
    traits: Mapping[str, ActionTraits] = field(default_factory=dict)
    """Of actions; one that is not in here is taken for the most dangerous kind."""
    uses_prometheus: frozenset[str] = frozenset()
    """The checks that can say nothing without a Prometheus."""
    notifiers: frozenset[str] = frozenset()
    """Kinds of channels; empty where they are not known."""
    summaries: Mapping[str, str] = field(default_factory=dict)
    """Of checks and guards, for the schema."""

    def traits_of(self, action: str) -> ActionTraits:
        """What is known of an action."""
        return self.traits.get(action, ActionTraits(destructive=True))


_PROBES: tuple[Any, ...] = ("5m", [], 1)


def plain_field(model: type[BaseModel]) -> str | None:
    """The field of a guard's settings that a plain value stands for, found by giving the model one; None if none."""
    for probe in _PROBES:
        try:
            made = model.model_validate(probe)
        except ValidationError:
            continue
        if len(made.model_fields_set) == 1:
            return next(iter(made.model_fields_set))
    return None
