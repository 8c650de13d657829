"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path

import click

config_option = click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("remediator.yaml"),
    envvar="REMEDIATOR_CONFIG",
    show_default=True,
    help="The settings file.",
)

format_option = click.option(
    "--format", "format_", type=click.Choice(["text", "json"]), default="text", show_default=True, help="For whom."
)
