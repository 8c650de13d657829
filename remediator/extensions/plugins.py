"""Find actions, checks, guards, notifiers and witnesses in installed packages, by their entry points.

A plugin runs with the rights of the service. Only the packages that the settings name are loaded: an installed package
that the settings do not name is not even imported.

A plugin cannot add a platform, because the inventory defines the binding of each platform kind.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from pydantic import BaseModel

from remediator.errors import ConfigurationError
from remediator.extensions.actions.base import Action
from remediator.extensions.checks.base import Check
from remediator.extensions.guards.base import Guard
from remediator.extensions.notifiers.base import Notifier
from remediator.extensions.witnesses.base import WitnessFactory

_PREFIX = "remediator."
_WITNESSES = "witnesses"
"""The only group with factories instead of classes as entry points."""
_CLASSES: Mapping[str, tuple[type, str, str]] = {
    "actions": (Action, "name", "Parameters"),
    "checks": (Check, "name", "Parameters"),
    "guards": (Guard, "name", "Settings"),
    "notifiers": (Notifier, "kind", "Settings"),
}
"""For each group: the base class, the attribute with the name, the attribute with the model of the settings."""
_NAME = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*")


class PluginError(ConfigurationError):
    """A package of ``plugins`` cannot be used. The message names the package, the entry point and the reason."""


@dataclass(frozen=True, slots=True)
class Plugin:
    """One extension of a package."""

    group: str
    name: str
    value: Any
    """A class; for a witness, a function."""


def find_plugins(packages: Iterable[str], taken: Mapping[str, Set[str]]) -> tuple[Plugin, ...]:
    """Return the extensions of these packages.

    Args:
        packages: names of installed distributions.
        taken: the names that are already in use, by group.

    Raises:
        PluginError: a package is not installed, has no extension, or has an unusable one.
    """
    owners = {(group, name): "remediator" for group, names in taken.items() for name in names}
    found: list[Plugin] = []
    for package in dict.fromkeys(packages):
        for point in _entry_points(package):
            group = point.group.removeprefix(_PREFIX)
            place = f"plugins: {package}: entry point {point.name!r} of {point.group!r}"
            value = _load(place, group, point)
            if (group, point.name) in owners:
                raise PluginError(f"{place}: {owners[group, point.name]} already has this name; rename the entry point")
            owners[group, point.name] = package
            found.append(Plugin(group, point.name, value))
    return tuple(found)


def _entry_points(package: str) -> Iterator[metadata.EntryPoint]:
    try:
        points = metadata.distribution(package).entry_points
    except (metadata.PackageNotFoundError, ValueError):
        raise PluginError(f"plugins: {package!r} is not installed; install it or remove it from 'plugins'") from None
    ours = [point for point in points if point.group.startswith(_PREFIX)]
    if not ours:
        groups = ", ".join(f"{_PREFIX}{group}" for group in (*_CLASSES, _WITNESSES))
        raise PluginError(f"plugins: {package!r} is not a plugin: it has no entry point in {groups}")
    yield from sorted(ours, key=lambda each: (each.group, each.name))


def _load(place: str, group: str, point: metadata.EntryPoint) -> Any:
    if group != _WITNESSES and group not in _CLASSES:
        raise PluginError(f"{place}: unknown group; known: {', '.join((*_CLASSES, _WITNESSES))}")
    try:
        value = point.load()
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the code of a plugin may raise anything when imported
        raise PluginError(f"{place}: cannot import {point.value}: {type(error).__name__}: {error}") from None
    if problem := _problem(group, point.name, value):
        raise PluginError(f"{place}: {problem}")
    return value


def _problem(group: str, name: str, value: Any) -> str:
    """Return why the value of an entry point cannot be used; empty if it can."""
    if _NAME.fullmatch(name) is None:
        return "invalid name; use lower-case words separated by dots, for example acme.drain"
    if group == _WITNESSES:
        return "" if isinstance(value, WitnessFactory) else "it is not a remediator.plugin_api.WitnessFactory"
    base, name_attribute, model_attribute = _CLASSES[group]
    if not (isinstance(value, type) and issubclass(value, base)):
        return f"it is not a subclass of remediator.plugin_api.{base.__name__}"
    if inspect.isabstract(value):
        abstract: frozenset[str] = vars(value)["__abstractmethods__"]
        return f"{value.__name__} does not implement {', '.join(sorted(abstract))}"
    if getattr(value, name_attribute, None) != name:
        actual = getattr(value, name_attribute, None)
        return f"{value.__name__}.{name_attribute} is {actual!r}; it must equal the name of the entry point"
    model = getattr(value, model_attribute, None)
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        return f"{value.__name__}.{model_attribute} is not a pydantic model"
    return ""
