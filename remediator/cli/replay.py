"""``remediator replay``: stored notifications against playbooks as they are now."""

from __future__ import annotations

from pathlib import Path

import click

from remediator.authoring.backtest.history import stored
from remediator.cli._history_options import Asked, history_options, show
from remediator.cli._options import config_option, format_option
from remediator.config import Config
from remediator.core.clock import SystemClock, before
from remediator.playbooks.loader import load_config
from remediator.service import read_only_connection


@click.command("replay")
@config_option
@format_option
@history_options
def command(
    config_path: Path, format_: str, since: str, playbooks: tuple[Path, ...], against: str | None, svg: Path | None
) -> None:
    """What playbooks would have done with the notifications in the store. Nothing is done, nothing is written there.

    The engine's own code runs on a virtual clock; what history does not hold is assumed, and said below the figures.

    \b
    Examples:
      remediator replay --since 7d
      remediator replay --playbooks changed/ --against main
    """
    config = load_config(config_path, Config)
    end = SystemClock().now()
    with read_only_connection(config) as connection:
        history = stored(connection, before(end, since), end)
    show(Asked(config, playbooks, against, svg, format_), history)
