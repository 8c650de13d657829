"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

config_option: Callable[[F], F] = click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("remediator.yaml"),
    envvar="REMEDIATOR_CONFIG",
    show_default=True,
    help="The settings file.",
)

format_option: Callable[[F], F] = click.option(
    "--format", "format_", type=click.Choice(["text", "json"]), default="text", show_default=True, help="For whom."
)
