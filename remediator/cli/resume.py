"""``remediator resume``: release the stop button."""

from __future__ import annotations

from pathlib import Path

import click

from remediator.cli import _direct_store
from remediator.cli._options import config_option
from remediator.config import Config
from remediator.errors import InputError
from remediator.extensions.guards._stop_file import read_stop_file
from remediator.playbooks.loader import load_config
from remediator.storage.repositories import stops


@click.command("resume")
@config_option
@click.argument("stop_id")
@click.option("--as", "who", help="Who says so; default: the user at this terminal.")
def command(config_path: Path, stop_id: str, who: str | None) -> None:
    """Release one stop; what it held goes on within a second. 'remediator status' lists them.

    \b
    Example:
      remediator resume stop-1m832pbs91d5nnh4x
    """
    config = load_config(config_path, Config)
    said = read_stop_file(config.state)
    if said is not None:
        raise InputError(f"{said.path} still says stop ({said.reason}); remove it first")
    if not _direct_store.write(config, lambda tx: stops.release(tx, stop_id, who or _direct_store.person())):
        raise InputError(f"{stop_id} does not stand; 'remediator status' lists the stops that do")
    click.echo(f"{stop_id} released")
