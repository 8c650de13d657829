"""``remediator backup``: a copy of the store, taken while it is in use."""

from __future__ import annotations

from pathlib import Path

import click

from remediator.cli._options import config_option
from remediator.config import Config
from remediator.errors import ConfigurationError
from remediator.playbooks.loader import load_config
from remediator.storage.backup import create_backup


@click.command("backup")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@config_option
def command(file: Path, config_path: Path) -> None:
    """Write a consistent, checked copy of the SQLite store to FILE; the service may run meanwhile.

    \b
    Example:
      remediator backup /var/backups/remediator-$(date +%F).db
    For PostgreSQL use its own: pg_dump --format=custom --file=FILE "$URL"
    """
    config = load_config(config_path, Config)
    if config.store != "sqlite":
        raise ConfigurationError("store: PostgreSQL is backed up by its own tools: pg_dump --format=custom --file=FILE")
    size = create_backup(config.state / "remediator.db", file)
    click.echo(f"{file}: {size} bytes, checked")
