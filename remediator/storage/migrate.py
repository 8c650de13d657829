"""Bringing a database to this version's schema: once, versioned, under a lock, never as a side effect of a start.

The one exception is an empty SQLite file, which is given its schema when the service first opens it, so that a
laptop needs no extra command.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, inspect
from sqlalchemy.exc import DBAPIError

from remediator.errors import StoreCorrupt, StoreUnavailable
from remediator.storage.schema import metadata

HEAD = "0001"
"""Revision of ``schema.py``; the newest file under ``migrations/versions`` has the same."""

_LOCK = 7_302_517_001  # any constant: the advisory lock under which PostgreSQL is migrated


def revision(connection: Connection) -> str | None:
    """The schema revision of a database; None for an empty one."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
    return found


def require_current(connection: Connection) -> None:
    """Refuse a database whose schema is not this version's; an empty SQLite file is given it.

    Raises:
        StoreCorrupt: older (say: migrate), newer (say: upgrade), or not ours.
    """
    found = revision(connection)
    if found == HEAD:
        _require_whole(connection)
        return
    if found is None and inspect(connection).get_table_names():
        raise StoreCorrupt(
            "the database has tables but no schema version: it is not a remediator's, or half migrated; "
            "restore it from a backup, or name another one"
        )
    if found is None and connection.dialect.name == "sqlite":
        migrate(connection)
        return
    if found is None:
        raise StoreCorrupt("the database is empty; run 'remediator db migrate' once")
    if found > HEAD:
        raise StoreCorrupt(f"the database has schema {found}, this version knows {HEAD}; start the newer remediator")
    raise StoreCorrupt(f"the database has schema {found}, this version needs {HEAD}; run 'remediator db migrate'")


def _require_whole(connection: Connection) -> None:
    missing = sorted(metadata.tables.keys() - set(inspect(connection).get_table_names()))
    if missing:
        text = f"the database says that it has schema {HEAD}, and has no table {missing[0]}"
        raise StoreCorrupt(f"{text}: half migrated or damaged; restore it from a backup")


def migrate(connection: Connection) -> None:
    """Run what is missing, in one transaction, while other processes are kept out.

    Raises:
        StoreUnavailable: the database does not allow it (rights, space); nothing was changed.
    """
    from alembic.config import Config  # noqa: PLC0415 - 100 ms that no ordinary start needs
    from alembic.runtime.environment import EnvironmentContext  # noqa: PLC0415
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    script = ScriptDirectory.from_config(config)
    postgres = connection.dialect.name == "postgresql"
    try:
        connection.exec_driver_sql("BEGIN" if postgres else "BEGIN IMMEDIATE")
        if postgres:
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
        with EnvironmentContext(config, script) as environment:
            environment.configure(
                connection=connection,
                fn=lambda current, context: script._upgrade_revs("head", current),
                transactional_ddl=False,  # ours is already open
            )
            environment.run_migrations()
        connection.exec_driver_sql("COMMIT")
    except DBAPIError as error:
        connection.exec_driver_sql("ROLLBACK")
        first = str(error.orig).strip().splitlines()[0]
        raise StoreUnavailable(f"the schema cannot be brought to {HEAD}: {first}; nothing was changed") from error
