"""Which plugins a command knows that works on files without a service."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from remediator.config import Config
from remediator.extensions import registry
from remediator.playbooks.loader import load_config, read_model

plugins_option = click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Settings file that names plugins; without it none are known.",
)


def use(config_path: Path | None) -> None:
    """Have the plugins that a settings file names; none without one.

    Raises:
        ConfigurationError: the file cannot be used, or a plugin that it names.
    """
    config: Any = None if config_path is None else load_config(config_path, Config)
    registry.load(() if config is None else config.plugins)


def named(config_path: Path | None) -> tuple[str, ...]:
    """The plugins of a settings file that may have mistakes of its own, which are lint's to tell."""
    read = None if config_path is None else read_model(config_path, Config).model
    return () if read is None else read.plugins
