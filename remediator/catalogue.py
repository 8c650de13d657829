"""What playbooks may name: actions, checks and guards, with the models of their settings. The registry fills it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import BaseModel


@dataclass(frozen=True, slots=True)
class Traits:
    """What an action declares of itself."""

    mutates: bool = True
    idempotent: bool = False
    reversible: bool = False
    destructive: bool = False
    summary: str = ""


@dataclass(frozen=True, slots=True)
class Catalogue:
    """What this installation offers to playbooks."""

    actions: Mapping[str, type[BaseModel]]
    checks: Mapping[str, type[BaseModel]]
    guards: Mapping[str, type[BaseModel]]
    traits: Mapping[str, Traits] = field(default_factory=dict)
    """Of actions; one that is not in here is taken for the most dangerous kind."""
    summaries: Mapping[str, str] = field(default_factory=dict)
    """Of checks and guards, for the schema."""

    def traits_of(self, action: str) -> Traits:
        """What is known of an action."""
        return self.traits.get(action, Traits(destructive=True))
