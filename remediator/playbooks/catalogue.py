"""The names that playbooks can use: actions, checks and guards, with the models of their settings.

The registry fills the catalogue.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from pydantic import BaseModel, ValidationError

from remediator.playbooks.facts import Fact
from remediator.playbooks.inventory import Service


@dataclass(frozen=True, slots=True)
class ActionTraits:
    """The traits that an action declares."""

    mutates: bool = True
    idempotent: bool = False
    reversible: bool = False
    destructive: bool = False
    summary: str = ""
    requires_approval: bool = False
    interrupts: bool = False
    """It interrupts the service or its clients."""
    measures: tuple[str, ...] = ()
    """The facts of its cost."""
    facts: tuple[Fact, ...] = ()
    """Empty if they are not declared."""
    timeout: timedelta = timedelta(seconds=30)
    """Timeout of one attempt, if the step sets none."""


@dataclass(frozen=True, slots=True)
class DeclaredCall:
    """The declaration of one command or request in the settings."""

    traits: ActionTraits
    values: Mapping[str, str] = field(default_factory=dict)
    """The values that it takes, each with the RE2 pattern that the whole value must match; empty: any value."""
    all_required: bool = False
    """Whether every value must be given."""
    on_host: bool = False
    """Whether it runs on the host of its target."""


@dataclass(frozen=True, slots=True)
class DeclaredCalls:
    """The commands or requests of the settings, for an action or a check that calls one of them by name."""

    section: str
    """Section of the settings that declares them, for example ``commands``."""
    name: str
    """Parameter with the name of the command or request, for example ``command``."""
    values: str
    """Parameter with its values, for example ``values``."""
    known: Mapping[str, DeclaredCall]

    def find(self, given: Mapping[str, Any]) -> DeclaredCall | None:
        """Return the command or request that a ``with`` block names; None if the settings do not declare it."""
        return self.known.get(str(given.get(self.name)))


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The names that playbooks can use in this installation, including plugins."""

    actions: Mapping[str, type[BaseModel]]
    checks: Mapping[str, type[BaseModel]]
    guards: Mapping[str, type[BaseModel]]
    traits: Mapping[str, ActionTraits] = field(default_factory=dict)
    """Traits of actions. An action without an entry is treated as destructive."""
    uses_prometheus: frozenset[str] = frozenset()
    """The checks that need Prometheus."""
    notifiers: Mapping[str, type[BaseModel]] = field(default_factory=dict)
    """Kinds of channels, with the models of their settings; empty if they are not known."""
    sources: Mapping[str, type[BaseModel]] = field(default_factory=dict)
    """Kinds of sources, with the models of their settings; empty if they are not known."""
    channel_keys: frozenset[str] = frozenset()
    """The keys that channels of every kind can have."""
    source_keys: frozenset[str] = frozenset()
    """The keys that sources of every kind can have."""
    summaries: Mapping[str, str] = field(default_factory=dict)
    """Summaries of checks and guards, for the JSON Schema."""

    check_facts: Mapping[str, tuple[Fact, ...]] = field(default_factory=dict)
    """Facts of checks. A check without an entry does not declare them."""

    needs: Mapping[tuple[str, str], tuple[str, ...]] = field(default_factory=dict)
    """The parts of the inventory entry of its service that a call needs, by kind (``action`` or ``check``) and name."""
    needs_on: Mapping[str, Mapping[str, tuple[str, ...]]] = field(default_factory=dict)
    """The parts that an action needs on one kind of platform only, by this kind and the action."""
    unsupported: Mapping[str, Callable[[Service], frozenset[str]]] = field(default_factory=dict)
    """Functions that return the actions that a platform refuses for a service, by the kind of the platform."""

    declared: Mapping[str, DeclaredCalls] = field(default_factory=dict)
    """The declared calls of the settings for an action or check; without an entry, the settings are unknown."""

    def traits_of(self, action: str, given: Mapping[str, Any] | None = None) -> ActionTraits:
        """Return the traits of an action.

        Args:
            action: the name of the action.
            given: its ``with`` block. The declaration in the settings of the command or request that it names replaces
                the traits of the action, which assume the worst.
        """
        if action in self.declared and (call := self.declared[action].find(given or {})) is not None:
            return call.traits
        return self.traits.get(action, ActionTraits(destructive=True))

    def why_impossible(self, kind: str, name: str, service: Service) -> str:
        """Return why a service cannot do an action, or answer a check; empty if the inventory allows it.

        Args:
            kind: ``action`` or ``check``.
            name: the action or check.
            service: the service of the inventory.
        """
        needed, platform = self.needs.get((kind, name), ()), service.platform.kind
        if kind == "action":
            if platform in self.unsupported and name in self.unsupported[platform](service):
                return f"the platform {platform} of {service.name} does not support it"
            needed = (*needed, *self.needs_on.get(platform, {}).get(name, ()))
        missing = [part for part in needed if getattr(service, part) is None]
        return f"the inventory does not set {' and '.join(missing)} for {service.name}" if missing else ""


_SAMPLES: tuple[Any, ...] = ("5m", [], 1)


def plain_field(model: type[BaseModel]) -> str | None:
    """Return the field of a guard's settings that a plain value sets; None if the guard needs a mapping.

    The field is found by validating samples of plain values.
    """
    for sample in _SAMPLES:
        try:
            made = model.model_validate(sample)
        except ValidationError:
            continue
        if len(made.model_fields_set) == 1:
            return next(iter(made.model_fields_set))
    return None
