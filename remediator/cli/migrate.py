"""``remediator migrate``: the only command that changes a schema."""

from __future__ import annotations

from pathlib import Path

import click
import sqlalchemy
import sqlalchemy.exc

from remediator.cli._options import config_option
from remediator.config import Config
from remediator.errors import StoreUnavailable
from remediator.playbooks.loader import load_config
from remediator.service import database_file, store_url
from remediator.storage.migrate import HEAD, migrate, revision


@click.command("migrate")
@config_option
def command(config_path: Path) -> None:
    """Bring the database to this version's schema, in one transaction; run it once, before starting replicas."""
    config = load_config(config_path, Config)
    sqlite = config.store == "sqlite"
    url = sqlalchemy.make_url(f"sqlite:///{database_file(config)}") if sqlite else store_url(config)
    try:
        with sqlalchemy.create_engine(url, isolation_level="AUTOCOMMIT").connect() as connection:
            before = revision(connection)
            migrate(connection)
    except sqlalchemy.exc.DBAPIError as error:
        raise StoreUnavailable(f"the database cannot be used: {str(error.orig).strip().splitlines()[0]}") from None
    click.echo(f"schema: {before or 'none'} -> {HEAD}")
