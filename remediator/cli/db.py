"""The ``remediator db`` commands: migrate, grant rights, back up and restore the database."""

from __future__ import annotations

from pathlib import Path

import click
import sqlalchemy
import sqlalchemy.exc

from remediator.audit import Draft, Kind
from remediator.cli import _direct_store, _output
from remediator.cli._options import actor_option, config_option
from remediator.config import Config, read_secret
from remediator.errors import ConfigurationError, StoreUnavailable
from remediator.playbooks.loader import load_config
from remediator.runtime.store_access import database_file, own_database, store_url
from remediator.storage import Tx, replacement
from remediator.storage import migrate as migrations
from remediator.storage.backup import create_backup, restore_backup
from remediator.storage.grants import grant
from remediator.storage.sqlite import exclusive_lock
from remediator.storage.url import open_engine, parse_postgresql_url

_url_file = click.option(
    "--url-file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="File with the postgresql:// URL of the role that owns the tables (default: the store of the settings).",
)


@click.group("db")
def command() -> None:
    """Migrate, back up and restore the database; grant rights on it."""


@command.command("migrate")
@config_option
@_url_file
def migrate(config_path: Path, url_file: Path | None) -> None:
    """Bring the database to the schema of this version, in one transaction.

    Run it once, before you start the replicas of a new version. Replicas of the old version continue to run.

    \b
    Example:
      remediator db migrate --config /etc/remediator/remediator.yaml
    """
    config = load_config(config_path, Config)
    sqlite = config.store == "sqlite"
    url = sqlalchemy.make_url(f"sqlite:///{database_file(config)}") if sqlite else _owner_url(config, url_file)
    try:
        with open_engine(url).connect() as connection:
            before = migrations.revision(connection)
            migrations.migrate(connection)
    except sqlalchemy.exc.DBAPIError as error:
        raise StoreUnavailable(f"the database cannot be migrated: {str(error.orig).strip().splitlines()[0]}") from None
    _output.echo(f"schema: {before or 'none'} -> {migrations.HEAD}")


def _owner_url(config: Config, url_file: Path | None) -> sqlalchemy.URL:
    return store_url(config) if url_file is None else parse_postgresql_url(read_secret(url_file))


@command.command("grant")
@click.argument("role")
@config_option
@_url_file
def grant_(role: str, config_path: Path, url_file: Path | None) -> None:
    """Give the PostgreSQL role ROLE exactly the rights that the service needs.

    The role may append to the audit log, but not change or delete entries. Run it as the owner of the tables, after
    each 'db migrate'. Then give the service the URL of ROLE, and keep the URL of the owner elsewhere.

    \b
    Examples:
      psql -c "CREATE ROLE remediator_service LOGIN PASSWORD '…'"
      remediator db grant remediator_service --url-file /root/postgres-owner-url
    """
    config = load_config(config_path, Config)
    if config.store == "sqlite" and url_file is None:
        raise ConfigurationError("store: SQLite has no roles; only the user of the service needs access to the file")
    try:
        with open_engine(_owner_url(config, url_file)).connect() as connection:
            migrations.require_current(connection)
            grant(connection, role)
    except sqlalchemy.exc.DBAPIError as error:
        raise StoreUnavailable(f"the rights cannot be granted: {str(error.orig).strip().splitlines()[0]}") from None
    _output.echo(f"{role}: may use the tables, and only append to the audit log")


@command.command("backup")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@config_option
def backup(file: Path, config_path: Path) -> None:
    """Write a consistent, checked copy of the SQLite database to FILE.

    The service may run. For PostgreSQL, use pg_dump --format=custom --file=FILE "$URL".

    \b
    Example:
      remediator db backup /var/backups/remediator-$(date +%F).db
    """
    config = load_config(config_path, Config)
    if config.store != "sqlite":
        raise ConfigurationError(
            'store: PostgreSQL has its own backup tool: pg_dump --format=custom --file=FILE "$URL"'
        )
    size = create_backup(own_database(config.state), file)
    _output.echo(f"{file}: {size} bytes, checked")


@command.command("restore")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@config_option
@actor_option
def restore(file: Path, config_path: Path, actor: str | None) -> None:
    """Replace the SQLite database by the backup FILE; keep the old one beside it.

    The service must not run. Everything after the backup is lost, including rate limits and cooldowns: check the
    targets before you start the service. For PostgreSQL, use pg_restore --clean --dbname="$URL" FILE.

    \b
    Example:
      remediator db restore /var/backups/remediator-2026-03-04.db --actor user:ann
    """
    config = load_config(config_path, Config)
    if config.store != "sqlite":
        raise ConfigurationError('store: PostgreSQL has its own restore tool: pg_restore --clean --dbname="$URL" FILE')
    database = database_file(config)
    with exclusive_lock(database):
        old = restore_backup(file, database)
        data = {"command": "restore", "file": file.name}
        draft = Draft(kind=Kind.OPERATOR_COMMAND, actor=actor or _direct_store.terminal_user(), data=data)

        def record(tx: Tx) -> None:
            tx.append_audit(draft)
            replacement.record(tx, f"restored from {file.name}", draft.actor)

        _direct_store.write(config, record)
    _output.echo(f"{database}: restored from {file}" + (f"; the old database is {old}" if old else ""))
