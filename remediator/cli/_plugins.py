"""Plugins for commands that work on files and need no service."""

from __future__ import annotations

from pathlib import Path

import click

from remediator.config import Config
from remediator.extensions.registry import Registry
from remediator.playbooks.loader import load_config

plugins_option = click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Settings file that names the plugins (default: none, no plugins).",
)


def registry_for(config_path: Path | None) -> Registry:
    """Return the built-in extensions, and the plugins that the settings file names.

    Raises:
        ConfigurationError: the file or one of its plugins cannot be used.
    """
    return Registry() if config_path is None else Registry.load(load_config(config_path, Config).plugins)
