"""The extensions of this installation: the built-in ones and those of the plugins that the settings name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from remediator.config import Channel, Config
from remediator.errors import ConfigurationError, InputError
from remediator.extensions import actions, checks, guards, notifiers, platforms, witnesses
from remediator.extensions.actions.base import Action
from remediator.extensions.checks.base import Check
from remediator.extensions.clientset import ClientSet
from remediator.extensions.guards.base import Guard
from remediator.extensions.notifiers.base import Notifier
from remediator.extensions.platforms.base import Platform
from remediator.extensions.plugins import Plugin, find_plugins
from remediator.extensions.witnesses.base import Witness, WitnessError, WitnessFactory
from remediator.playbooks.catalogue import Catalogue, DeclaredCalls
from remediator.playbooks.diagnostics import did_you_mean

_MISSING_ARGUMENT = re.compile(r"missing \d+ required .*?: (.*)")
_UNEXPECTED_ARGUMENT = re.compile(r"unexpected keyword argument ('.*?')")


@dataclass(frozen=True)
class Registry:
    """The classes of all extensions. Without arguments: the built-in ones."""

    actions: Sequence[type[Action]] = actions.BUILTIN
    checks: Sequence[type[Check]] = checks.BUILTIN
    guards: Sequence[type[Guard]] = guards.BUILTIN
    """In the order of evaluation."""
    notifiers: Sequence[type[Notifier]] = notifiers.BUILTIN
    platforms: Sequence[type[Platform]] = platforms.BUILTIN
    witnesses: Mapping[str, WitnessFactory] = field(default_factory=lambda: witnesses.BUILTIN)
    """By kind."""
    allowed: ClientSet | None = None
    """The commands and requests that the settings allow; None: the settings are not known."""

    @classmethod
    def load(cls, packages: Iterable[str]) -> Registry:
        """Return the built-in extensions and those of these packages.

        Guards of plugins are evaluated after the built-in ones.

        Args:
            packages: names of installed distributions. No other package is loaded.

        Raises:
            PluginError: a package cannot be used.
        """
        builtin = cls()
        taken = {
            "actions": {each.name for each in builtin.actions},
            "checks": {each.name for each in builtin.checks},
            "guards": {each.name for each in builtin.guards},
            "notifiers": {each.kind for each in builtin.notifiers},
            "witnesses": set(builtin.witnesses),
        }
        found = find_plugins(packages, taken)
        return cls(
            actions=(*builtin.actions, *_of_group("actions", found)),
            checks=(*builtin.checks, *_of_group("checks", found)),
            guards=(*builtin.guards, *_of_group("guards", found)),
            notifiers=(*builtin.notifiers, *_of_group("notifiers", found)),
            witnesses={**builtin.witnesses, **{each.name: each.value for each in found if each.group == "witnesses"}},
        )

    @classmethod
    def for_settings(cls, settings: Config) -> Registry:
        """Return the built-in extensions, those of the plugins of the settings, and their commands and requests.

        Raises:
            PluginError: a package cannot be used.
        """
        allowed = ClientSet(commands=settings.commands, requests=settings.requests)
        return replace(cls.load(settings.plugins), allowed=allowed)

    def catalogue(self) -> Catalogue:
        """Return what playbooks can name, with the models of the parameters and settings."""
        return Catalogue(
            actions={action.name: action.Parameters for action in self.actions},
            checks={check.name: check.Parameters for check in self.checks},
            guards={guard.name: guard.Settings for guard in self.guards},
            traits={action.name: action.declared_traits() for action in self.actions},
            uses_prometheus=frozenset(check.name for check in self.checks if check.uses_prometheus),
            notifiers={notifier.kind: notifier.Settings for notifier in self.notifiers},
            summaries={
                **{check.name: _summary(check) for check in self.checks},
                **{guard.name: _summary(guard) for guard in self.guards},
            },
            check_facts={check.name: check.facts for check in self.checks if check.facts},
            declared=dict(self._declared_calls()),
        )

    def _declared_calls(self) -> Iterator[tuple[str, DeclaredCalls]]:
        if self.allowed is None:
            return
        found = {each.name: each.declared_calls(self.allowed) for each in self.actions}
        found |= {each.name: each.declared_calls(self.allowed) for each in self.checks}
        yield from ((name, calls) for name, calls in found.items() if calls is not None)

    def make_platforms(self) -> dict[str, Platform]:
        """Return a new instance of each platform, by kind."""
        return {platform.kind: platform() for platform in self.platforms}

    def make_actions(self, clients: ClientSet) -> dict[str, Action]:
        """Return a new instance of each action, by name."""
        return {action.name: action(clients) for action in self.actions}

    def make_checks(self, clients: ClientSet) -> dict[str, Check]:
        """Return a new instance of each check, by name."""
        return {check.name: check(clients) for check in self.checks}

    def make_guards(self, clients: ClientSet) -> tuple[Guard, ...]:
        """Return a new instance of each guard, in the order of evaluation."""
        return tuple(guard(clients) for guard in self.guards)

    def make_channels(self, settings: Mapping[str, Channel]) -> dict[str, Notifier]:
        """Return a notifier for each channel of the settings, by the name of the channel.

        Raises:
            ConfigurationError: a kind is unknown, or the settings of a channel are invalid.
        """
        kinds = {notifier.kind: notifier for notifier in self.notifiers}
        channels = {}
        for name, channel in settings.items():
            if channel.kind not in kinds:
                raise ConfigurationError(
                    f"channels.{name}: unknown notifier {channel.kind!r}; known: {', '.join(sorted(kinds))}"
                )
            try:
                channels[name] = kinds[channel.kind](channel.model_extra or {})
            except ConfigurationError as error:
                raise ConfigurationError(f"channels.{name}: {error}") from None
        return channels

    def make_witnesses(self, settings: Sequence[Channel], channels: Mapping[str, Channel]) -> dict[str, Witness]:
        """Return the witnesses of the settings, by kind and number (``git-1``).

        Args:
            settings: of the witnesses. ``channel`` names a channel; the witness gets its notifier.
            channels: the channels of the settings.

        Raises:
            ConfigurationError: a kind is unknown, or the settings of a witness are invalid.
        """
        made: dict[str, Witness] = {}
        for number, place in enumerate(settings, start=1):
            if place.kind not in self.witnesses:
                raise ConfigurationError(
                    f"audit.checkpoints: unknown kind {place.kind!r}; known: {', '.join(sorted(self.witnesses))}"
                )
            try:
                arguments = dict(place.model_extra or {})
                if "channel" in arguments:
                    name = str(arguments["channel"])
                    if name not in channels:
                        hint = did_you_mean(name, channels) or "no channel is configured"
                        raise InputError(f"unknown channel {name!r}; {hint}")
                    arguments["channel"] = self.make_channels({name: channels[name]})[name]
                made[f"{place.kind}-{number}"] = self.witnesses[place.kind](arguments)
            except (TypeError, KeyError, ImportError, WitnessError, InputError) as error:
                raise ConfigurationError(f"audit.checkpoints: {place.kind}: {_constructor_error(error)}") from None
        return made


def _of_group(group: str, plugins: Sequence[Plugin]) -> Iterable[type]:
    return (plugin.value for plugin in plugins if plugin.group == group)


def _summary(kind: type) -> str:
    """Return the first line of a docstring."""
    return (kind.__doc__ or "").strip().partition("\n")[0]


def _constructor_error(error: Exception) -> str:
    """Return Python's error about the arguments of a constructor, in terms of settings."""
    if isinstance(error, KeyError):
        return f"{error} is missing"
    if missing := _MISSING_ARGUMENT.search(str(error)):
        return f"{missing[1]} is missing"
    if unexpected := _UNEXPECTED_ARGUMENT.search(str(error)):
        return f"unknown setting {unexpected[1]}"
    return str(error)
