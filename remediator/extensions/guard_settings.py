"""The settings of guards in the settings file: guards that are off, and settings for all playbooks."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from pydantic import ValidationError

from remediator.config import Config
from remediator.errors import ConfigurationError
from remediator.extensions.guards.base import Guard
from remediator.playbooks.model import DisabledGuard


def guards_off(config: Config) -> tuple[DisabledGuard, ...]:
    """Return the guards that ``guards.off`` of the settings turns off, each with a reason.

    Raises:
        ConfigurationError: a guard has no reason.
    """
    try:
        return tuple(DisabledGuard.model_validate(item) for item in config.guards.get("off", ()))
    except ValidationError as error:
        raise ConfigurationError(f"guards.off{_first_error(error)}") from None


def guards_on(config: Config, guards: Sequence[Guard]) -> tuple[Guard, ...]:
    """Return the guards without those that ``guards.off`` of the settings turns off.

    Args:
        guards: all guards of the installation.

    Raises:
        ConfigurationError: ``guards.off`` names an unknown guard, or gives no reason.
    """
    off, known = {item.guard for item in guards_off(config)}, [guard.name for guard in guards]
    for name in off.difference(known):
        raise ConfigurationError(f"guards.off: unknown guard {name!r}; known: {', '.join(known)}")
    return tuple(guard for guard in guards if guard.name not in off)


def watchdog_max_silence(config: Config) -> timedelta | None:
    """Return how long the Watchdog may be silent; None if its guard is off, so that it is not monitored."""
    return None if any(item.guard == "watchdog" for item in guards_off(config)) else config.watchdog.max_silence


def guard_defaults(config: Config, guards: Sequence[type[Guard]]) -> dict[str, Any]:
    """Return the settings of guards for the whole installation.

    Raises:
        ConfigurationError: a guard is unknown, or its settings are invalid.
    """
    common = {name: value for name, value in config.guards.items() if name != "off"}
    watchdog = common.get("watchdog", {})
    if isinstance(watchdog, dict):
        common["watchdog"] = {"max_silence": config.watchdog.max_silence, **watchdog}
    models = {guard.name: guard.Settings for guard in guards}
    for name, value in common.items():
        if name not in models:
            raise ConfigurationError(f"guards: unknown guard {name!r}; known: {', '.join(models)}")
        try:
            models[name].model_validate(value)
        except ValidationError as error:
            raise ConfigurationError(f"guards.{name}{_first_error(error)}") from None
    return common


def _first_error(error: ValidationError) -> str:
    """Return the first error with its key."""
    first = error.errors()[0]
    place = "".join(f".{step}" for step in first["loc"])
    return f"{place}: {first['msg']} (run 'remediator lint' for the line in the settings file)"
