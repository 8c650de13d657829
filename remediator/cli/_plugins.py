"""Which plugins a command knows that works on files without a service."""

from __future__ import annotations

from pathlib import Path

import click

from remediator.config import Config
from remediator.extensions.registry import Registry
from remediator.playbooks.loader import load_config, read_model

plugins_option = click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Settings file that names plugins; without it none are known.",
)


def registry_for(config_path: Path | None) -> Registry:
    """Return the built-in extensions and the plugins that a settings file names.

    Raises:
        ConfigurationError: the file cannot be used, or a plugin that it names.
    """
    return Registry() if config_path is None else Registry.load(load_config(config_path, Config).plugins)


def named(config_path: Path | None) -> tuple[str, ...]:
    """The plugins of a settings file that may have mistakes of its own, which are lint's to tell."""
    read = None if config_path is None else read_model(config_path, Config).model
    return () if read is None else read.plugins
