"""``remediator restore``: put a backup of the store in place."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from remediator.audit import Draft, Kind
from remediator.cli._options import config_option
from remediator.config import Config
from remediator.core.clock import SystemClock
from remediator.errors import ConfigurationError
from remediator.playbooks.loader import load_config
from remediator.service import database_file
from remediator.storage.backup import restore_backup
from remediator.storage.sqlite import SqliteStore, exclusive_lock


@click.command("restore")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option("--who", required=True, help="Who restores it, for the audit log.")
@config_option
def command(file: Path, who: str, config_path: Path) -> None:
    """Replace the SQLite store by the backup FILE. The service must not run; what was there is kept beside it.

    What happened after the backup is forgotten: budgets and cooldowns too. Look at the targets before you start again.

    \b
    Example:
      remediator restore /var/backups/remediator-2026-03-04.db --who ann
    """
    config = load_config(config_path, Config)
    if config.store != "sqlite":
        raise ConfigurationError("store: PostgreSQL is restored by its own tools: pg_restore --clean --dbname=URL FILE")
    database = database_file(config)
    with exclusive_lock(database):
        aside = restore_backup(file, database)
    asyncio.run(_record(database, file, who))
    click.echo(f"{database}: restored from {file}" + (f"; what was there is {aside}" if aside else ""))


async def _record(database: Path, file: Path, who: str) -> None:
    store = SqliteStore(database, SystemClock())
    try:
        data = {"command": "restore", "file": file.name}
        await store.write(lambda tx: tx.append_audit(Draft(kind=Kind.OPERATOR_COMMAND, actor=f"user:{who}", data=data)))
    finally:
        await store.close()
