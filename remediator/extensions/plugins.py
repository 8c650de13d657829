"""Plugins: actions, checks, guards, notifiers and notaries from installed packages, by entry points.

No platforms: the inventory describes each kind's binding itself, so a kind that it does not know could not be named.

A plugin is code that acts with the service's rights, so nothing is loaded but the packages that the settings name;
where they name none, no package is even looked at.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from pydantic import BaseModel

from remediator.errors import ConfigurationError
from remediator.extensions.actions.base import Action
from remediator.extensions.checks.base import Check
from remediator.extensions.guards.base import Guard
from remediator.extensions.notifiers.base import Notifier

NOTARIES = "notaries"
"""The one group whose entry points are functions: from the settings of a place to a notary."""

_BASES: Mapping[str, tuple[type, str, str]] = {
    "actions": (Action, "name", "Parameters"),
    "checks": (Check, "name", "Parameters"),
    "guards": (Guard, "name", "Settings"),
    "notifiers": (Notifier, "kind", "Settings"),
}
"""By group: the base, the attribute that holds the name, the attribute that holds the model of its settings."""

GROUPS = (*_BASES, NOTARIES)
_NAME = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*")


class PluginError(ConfigurationError):
    """A package that the settings name cannot be used; the message has the package, the entry point and why."""


@dataclass(frozen=True, slots=True)
class Plugin:
    """One thing that a package brings."""

    package: str
    group: str
    name: str
    made: Any
    """A class; a function for notaries."""


def find(packages: Sequence[str], taken: Mapping[str, frozenset[str]]) -> tuple[Plugin, ...]:
    """What these packages bring.

    Args:
        packages: names of distributions, as they were installed.
        taken: by group, the names that there are already.

    Raises:
        PluginError: a package is not installed, brings nothing, or brings what cannot be used.
    """
    owners = {(group, name): "remediator" for group, names in taken.items() for name in names}
    found: list[Plugin] = []
    for package in dict.fromkeys(packages):
        for plugin in _brought(package):
            owner = owners.setdefault((plugin.group, plugin.name), package)
            if owner != package or any((plugin.group, plugin.name) == (one.group, one.name) for one in found):
                raise PluginError(f"{_place(package, plugin)}: {owner} has one of this name already")
            found.append(plugin)
    return tuple(found)


def _brought(package: str) -> Iterator[Plugin]:
    try:
        points = metadata.distribution(package).entry_points
    except (metadata.PackageNotFoundError, ValueError):
        raise PluginError(f"plugins: {package}: there is no such package installed") from None
    ours = [point for point in points if point.group.startswith("remediator.")]
    if not ours:
        raise PluginError(f"plugins: {package}: it has no entry point of a group remediator.…, so it is no plugin")
    for point in sorted(ours, key=lambda each: (each.group, each.name)):
        yield _load(package, point)


def _load(package: str, point: metadata.EntryPoint) -> Plugin:
    group = point.group.removeprefix("remediator.")
    plugin = Plugin(package, group, point.name, None)
    place = _place(package, plugin)
    if group not in GROUPS:
        raise PluginError(f"{place}: there is no such group; there are: {', '.join(GROUPS)}")
    try:
        made = point.load()
    except (Exception, SystemExit) as error:  # noqa: BLE001 - others' code may raise anything; it is told by name
        raise PluginError(f"{place}: {point.value} cannot be imported: {type(error).__name__}: {error}") from None
    why = _unfit(group, point.name, made)
    if why:
        raise PluginError(f"{place}: {why}")
    return Plugin(package, group, point.name, made)


def _place(package: str, plugin: Plugin) -> str:
    return f"plugins: {package}: entry point {plugin.name} of remediator.{plugin.group}"


def _unfit(group: str, name: str, made: Any) -> str:
    """Why it cannot be used; empty if it can."""
    if _NAME.fullmatch(name) is None:
        return "its name is not of the form acme.drain"
    if group == NOTARIES:
        return "" if callable(made) else "it is not a function that makes a notary"
    base, named, model = _BASES[group]
    if not (isinstance(made, type) and issubclass(made, base)):
        return f"it is not a class derived from {base.__module__}.{base.__name__}"
    if inspect.isabstract(made):
        return f"{made.__name__} lacks {', '.join(_abstract(made))}"
    if getattr(made, named, None) != name:
        return f"{made.__name__}.{named} is {getattr(made, named, None)!r}, not the name of the entry point"
    settings = getattr(made, model, None)
    if not (isinstance(settings, type) and issubclass(settings, BaseModel)):
        return f"{made.__name__}.{model} is not a pydantic model"
    return ""


def _abstract(made: type) -> list[str]:
    names: frozenset[str] = vars(made)["__abstractmethods__"]
    return sorted(names)
