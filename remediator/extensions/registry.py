"""The only file that names implementations. Adding one is its file and its line here."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from remediator.config import Channel
from remediator.errors import ConfigurationError, InputError
from remediator.extensions import actions, checks, guards, notifiers, platforms, plugins, witnesses
from remediator.extensions.actions.base import Action
from remediator.extensions.checks.base import Check
from remediator.extensions.clientset import ClientSet
from remediator.extensions.guards.base import Guard
from remediator.extensions.notifiers.base import Notifier
from remediator.extensions.notifiers.log import LogNotifier
from remediator.extensions.platforms.base import Platform
from remediator.extensions.witnesses.base import NotaryError, Witness
from remediator.playbooks.catalogue import ActionTraits, Catalogue
from remediator.playbooks.diagnostics import did_you_mean

ACTIONS: tuple[type[Action], ...] = actions.BUILTIN

CHECKS: tuple[type[Check], ...] = checks.BUILTIN

GUARDS: tuple[type[Guard], ...] = guards.BUILTIN
"""In the order in which they are asked."""

NOTIFIERS: tuple[type[Notifier], ...] = notifiers.BUILTIN

NOTARIES: Mapping[str, Callable[[Mapping[str, Any]], Witness]] = witnesses.BUILTIN
PLATFORMS: tuple[type[Platform], ...] = platforms.BUILTIN

_OWN: Mapping[str, Mapping[str, Any]] = {
    "actions": {action.name: action for action in ACTIONS},
    "checks": {check.name: check for check in CHECKS},
    "guards": {guard.name: guard for guard in GUARDS},
    "notifiers": {notifier.kind: notifier for notifier in NOTIFIERS},
    "notaries": NOTARIES,
}


def load(packages: Sequence[str]) -> None:
    """Have what is built in and what these packages bring, and nothing else; for the whole process.

    Guards of plugins are asked after those that are built in.

    Raises:
        PluginError: a package cannot be used; then everything is as it was.
    """
    global ACTIONS, CHECKS, GUARDS, NOTIFIERS, NOTARIES, PLATFORMS
    found = plugins.find(packages, {group: frozenset(own) for group, own in _OWN.items()}) if packages else ()
    every = {
        group: {**own, **{each.name: each.made for each in found if each.group == group}} for group, own in _OWN.items()
    }
    ACTIONS, CHECKS = tuple(every["actions"].values()), tuple(every["checks"].values())
    GUARDS, NOTIFIERS = tuple(every["guards"].values()), tuple(every["notifiers"].values())
    NOTARIES = every["notaries"]


def catalogue() -> Catalogue:
    """What this installation offers to playbooks."""
    return Catalogue(
        actions={action.name: action.Parameters for action in ACTIONS},
        checks={check.name: check.Parameters for check in CHECKS},
        guards={guard.name: guard.Settings for guard in GUARDS},
        traits={action.name: _traits(action) for action in ACTIONS},
        ask_prometheus=frozenset(check.name for check in CHECKS if check.asks_prometheus),
        notifiers=frozenset(notifier.kind for notifier in NOTIFIERS),
        summaries={
            **{check.name: _first_line(check) for check in CHECKS},
            **{guard.name: _first_line(guard) for guard in GUARDS},
        },
    )


def _traits(action: type[Action]) -> ActionTraits:
    return ActionTraits(
        action.mutates, action.idempotent, action.reversible, action.destructive, _first_line(action), action.asks
    )


def _first_line(kind: type) -> str:
    return (kind.__doc__ or "").strip().partition("\n")[0]


def make_platforms() -> dict[str, Platform]:
    """One of each kind."""
    return {platform.kind: platform() for platform in PLATFORMS}


def make_actions(world: ClientSet) -> dict[str, Action]:
    """One of each, by name."""
    return {action.name: action(world) for action in ACTIONS}


def make_checks(world: ClientSet) -> dict[str, Check]:
    """One of each, by name."""
    return {check.name: check(world) for check in CHECKS}


def make_guards(world: ClientSet) -> tuple[Guard, ...]:
    """One of each, in order."""
    return tuple(guard(world) for guard in GUARDS)


def make_channels(settings: Mapping[str, Channel]) -> dict[str, Notifier]:
    """The channels that the settings name, each by its notifier.

    Raises:
        ConfigurationError: there is no such kind of notifier.
    """
    kinds = {notifier.kind: notifier for notifier in NOTIFIERS}
    channels = {}
    for name, channel in settings.items():
        if channel.kind not in kinds:
            known = ", ".join(sorted(kinds))
            raise ConfigurationError(f"channels.{name}: there is no notifier {channel.kind!r}; there are: {known}")
        try:
            channels[name] = kinds[channel.kind](channel.model_extra or {})
        except ConfigurationError as error:
            raise ConfigurationError(f"channels.{name}: {error}") from None
    return channels


def make_notaries(settings: Sequence[Channel], channels: Mapping[str, Channel]) -> dict[str, Witness]:
    """The places that keep signed checkpoints, by kind and number.

    Args:
        settings: the places; a ``channel`` among one's settings is the name of a channel, and given as its notifier.
        channels: as the settings have them.

    Raises:
        ConfigurationError: there is no such kind, or its settings do not fit.
    """
    made: dict[str, Witness] = {}
    for number, place in enumerate(settings, start=1):
        if place.kind not in NOTARIES:
            known = ", ".join(sorted(NOTARIES))
            raise ConfigurationError(f"audit.checkpoints: there is no kind {place.kind!r}; there are: {known}")
        try:
            given = dict(place.model_extra or {})
            if "channel" in given:
                given["channel"] = _channel(str(given["channel"]), channels)
            made[f"{place.kind}-{number}"] = NOTARIES[place.kind](given)
        except (TypeError, KeyError, ImportError, NotaryError, InputError) as error:
            raise ConfigurationError(f"audit.checkpoints: {place.kind}: {_said(error)}") from None
    return made


_MISSING = re.compile(r"missing \d+ required .*?: (.*)")
_UNEXPECTED = re.compile(r"unexpected keyword argument ('.*?')")


def _said(error: Exception) -> str:
    """What Python says of a constructor's arguments, in the words of settings."""
    if isinstance(error, KeyError):
        return f"{error} is missing"
    if missing := _MISSING.search(str(error)):
        return f"{missing[1]} is missing"
    if unexpected := _UNEXPECTED.search(str(error)):
        return f"there is no setting {unexpected[1]}"
    return str(error)


def _channel(name: str, channels: Mapping[str, Channel]) -> Notifier:
    if name not in channels:
        raise InputError(f"there is no channel {name!r}; {did_you_mean(name, channels) or 'the settings have none'}")
    return make_channels({name: channels[name]})[name]


def make_fallback() -> Notifier:
    """Where messages go whose channel is not configured."""
    return LogNotifier({})
