"""The extensions of this installation: the built-in extensions, and the extensions of plugins in the settings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import BaseModel, ValidationError

from remediator.config import Channel, Config, MessageChannel, SourceSettings
from remediator.core.alert import ALERTMANAGER
from remediator.errors import ConfigurationError, InputError
from remediator.extensions import actions, checks, discoverers, guards, notifiers, platforms, sources, witnesses
from remediator.extensions.actions.base import Action
from remediator.extensions.checks.base import Check
from remediator.extensions.clientset import ClientSet
from remediator.extensions.discoverers.base import Discoverer
from remediator.extensions.guards.base import Guard
from remediator.extensions.notifiers.base import Notifier
from remediator.extensions.platforms.base import Platform
from remediator.extensions.plugins import Plugin, find_plugins
from remediator.extensions.sources.alertmanager import AlertmanagerSettings, AlertmanagerSource
from remediator.extensions.sources.base import Source
from remediator.extensions.witnesses.base import Witness, WitnessError, WitnessFactory
from remediator.playbooks.catalogue import Catalogue, DeclaredCalls
from remediator.playbooks.diagnostics import did_you_mean


@dataclass(frozen=True)
class Registry:
    """The classes of all extensions. Without arguments: the built-in classes."""

    actions: Sequence[type[Action]] = actions.BUILTIN
    checks: Sequence[type[Check]] = checks.BUILTIN
    guards: Sequence[type[Guard]] = guards.BUILTIN
    """In the order of evaluation."""
    notifiers: Sequence[type[Notifier]] = notifiers.BUILTIN
    platforms: Sequence[type[Platform]] = platforms.BUILTIN
    discoverers: Sequence[type[Discoverer]] = discoverers.BUILTIN
    sources: Sequence[type[Source]] = sources.BUILTIN
    witnesses: Mapping[str, WitnessFactory] = field(default_factory=lambda: witnesses.BUILTIN)
    """Functions that create witnesses, by kind."""
    allowed: ClientSet | None = None
    """The commands and requests that the settings allow; None: the settings are not known."""

    @classmethod
    def load(cls, packages: Iterable[str]) -> Registry:
        """Return the built-in extensions and the extensions of these packages.

        Guards of plugins are evaluated after the built-in guards.

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
        """Return the built-in extensions, the extensions of plugins, and the commands and requests of the settings.

        Raises:
            PluginError: a package cannot be used.
        """
        allowed = ClientSet(commands=settings.commands, requests=settings.requests)
        return replace(cls.load(settings.plugins), allowed=allowed)

    def catalogue(self) -> Catalogue:
        """Return the names that playbooks can use, with the models of the parameters and settings."""
        calls: dict[str, DeclaredCalls | None] = {}
        if self.allowed is not None:
            calls = {each.name: each.declared_calls(self.allowed) for each in self.actions}
            calls |= {each.name: each.declared_calls(self.allowed) for each in self.checks}
        return Catalogue(
            actions={action.name: action.Parameters for action in self.actions},
            checks={check.name: check.Parameters for check in self.checks},
            guards={guard.name: guard.Settings for guard in self.guards},
            traits={action.name: action.declared_traits() for action in self.actions},
            uses_prometheus=frozenset(check.name for check in self.checks if check.uses_prometheus),
            notifiers={notifier.kind: notifier.Settings for notifier in self.notifiers},
            sources={source.kind: source.Settings for source in self.sources},
            channel_keys=frozenset(MessageChannel.model_fields),
            source_keys=frozenset(SourceSettings.model_fields),
            summaries={
                **{check.name: _summary(check) for check in self.checks},
                **{guard.name: _summary(guard) for guard in self.guards},
            },
            check_facts={check.name: check.facts for check in self.checks if check.facts},
            needs={
                **{("action", action.name): action.needs for action in self.actions},
                **{("check", check.name): check.needs for check in self.checks},
            },
            needs_on={platform.kind: platform.needs for platform in self.platforms},
            unsupported={platform.kind: platform.unsupported_on for platform in self.platforms},
            declared={name: each for name, each in calls.items() if each is not None},
        )

    def make_platforms(self) -> dict[str, Platform]:
        """Return a new instance of each platform, by kind."""
        return {platform.kind: platform() for platform in self.platforms}

    def make_discoverers(self, clients: ClientSet) -> dict[str, Discoverer]:
        """Return a new instance of each discoverer, by kind."""
        return {discoverer.kind: discoverer(clients) for discoverer in self.discoverers}

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
                channels[name] = kinds[channel.kind](_resolved(channel, kinds[channel.kind].Settings))
            except ConfigurationError as error:
                raise ConfigurationError(f"channels.{name}: {error}") from None
        return channels

    def make_sources(self, config: Config) -> dict[str, Source]:
        """Return every source of the settings by name, including the source that ``webhook`` and ``alertmanagers``
        describe.

        Raises:
            ConfigurationError: a kind is unknown, or the settings of a source are invalid.
        """
        settings = AlertmanagerSettings(peers=config.alertmanagers, receiver=config.alertmanager_receiver)
        made: dict[str, Source] = {ALERTMANAGER: AlertmanagerSource(ALERTMANAGER, settings)}
        kinds = {source.kind: source for source in self.sources}
        for name, each in config.sources.items():
            if each.kind not in kinds:
                raise ConfigurationError(
                    f"sources.{name}: unknown kind {each.kind!r}; known: {', '.join(sorted(kinds))}"
                )
            try:
                made[name] = kinds[each.kind](name, each.as_model(kinds[each.kind].Settings))
            except ValidationError as error:
                raise ConfigurationError(f"sources.{name}: {_settings_error(error)}") from None
            except ConfigurationError as error:
                raise ConfigurationError(f"sources.{name}: {error}") from None
        return made

    def models(self, config: Config) -> list[BaseModel]:
        """Return the settings of all channels, sources and witnesses as the models that these declare.

        Settings that do not fit the model are omitted: creating the channel, source or witness reports them.
        """
        kinds = {notifier.kind: notifier.Settings for notifier in self.notifiers}
        declared: list[tuple[Channel, type[BaseModel] | None]] = [
            (channel, kinds.get(channel.kind)) for channel in config.channels.values()
        ]
        of_sources = {source.kind: source.Settings for source in self.sources}
        declared += [(source, of_sources.get(source.kind)) for source in config.sources.values()]
        for place in config.audit.checkpoints:
            factory = self.witnesses.get(place.kind)
            declared.append((place, None if factory is None else factory.Settings))
        found: list[BaseModel] = []
        for channel, model in declared:
            if model is not None:
                with suppress(ValidationError):
                    found.append(channel.as_model(model))
        return found

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
                factory = self.witnesses[place.kind]
                arguments = _given(place.as_model(factory.Settings))
                if "channel" in arguments:
                    name = str(arguments["channel"])
                    if name not in channels:
                        hint = did_you_mean(name, channels) or "no channel is configured"
                        raise InputError(f"unknown channel {name!r}; {hint}")
                    arguments["channel"] = self.make_channels({name: channels[name]})[name]
                made[f"{place.kind}-{number}"] = factory.make(arguments)
            except ValidationError as error:
                raise ConfigurationError(f"audit.checkpoints: {place.kind}: {_settings_error(error)}") from None
            except (ImportError, WitnessError, InputError) as error:
                raise ConfigurationError(f"audit.checkpoints: {place.kind}: {error}") from None
        return made


def _given(model: BaseModel) -> dict[str, Any]:
    """Return the values that were given, with their types: paths are absolute, durations are durations."""
    return {name: getattr(model, name) for name in model.model_fields_set}


def _resolved(channel: Channel, model: type[BaseModel]) -> dict[str, Any]:
    """Return the settings of a channel or a witness with absolute paths; unchanged if they do not fit the model."""
    try:
        return _given(channel.as_model(model))
    except ValidationError:
        return dict(channel.model_extra or {})


def _of_group(group: str, plugins: Sequence[Plugin]) -> Iterable[type]:
    return (plugin.value for plugin in plugins if plugin.group == group)


def _summary(kind: type) -> str:
    """Return the first line of a docstring."""
    return (kind.__doc__ or "").strip().partition("\n")[0]


def _settings_error(error: ValidationError) -> str:
    """Return one error of a model in terms of settings. An unknown setting comes first: it explains a missing one."""
    found = error.errors(include_url=False, include_input=False)
    first = min(found, key=lambda item: item["type"] != "extra_forbidden")
    name = ".".join(map(str, first["loc"]))
    text = {"missing": f"{name!r} is missing", "extra_forbidden": f"unknown setting {name!r}"}.get(first["type"])
    return text or f"{name}: {first['msg'].removeprefix('Value error, ')}"
