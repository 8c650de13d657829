"""Migrate a database to the schema of this version. A start never migrates, with one exception.

The exception is an empty SQLite file. The service creates its schema when it first opens the file, so that a laptop
needs no extra command.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, inspect
from sqlalchemy.exc import DBAPIError

from remediator.errors import ConfigurationError, StoreCorrupt, StoreUnavailable
from remediator.storage.schema import metadata

HEAD = "0002"
"""Revision of ``schema.py``, which is the revision of the newest file in ``migrations/versions``."""

_LOCK = 7_302_517_001  # advisory lock on PostgreSQL: one change of schema or rights at a time; an arbitrary constant


def revision(connection: Connection) -> str | None:
    """Return the schema revision of a database; None if it is empty."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
    return found


def require_current(connection: Connection) -> None:
    """Refuse a database with another schema than this version's; create the schema in an empty SQLite file.

    Raises:
        StoreCorrupt: the schema is older, newer or incomplete, or the database is not a remediator's.
    """
    found = revision(connection)
    tables = set(inspect(connection).get_table_names())
    if found == HEAD:
        missing = sorted(metadata.tables.keys() - tables)
        if missing:
            raise StoreCorrupt(
                f"the database has schema {HEAD} but no table {missing[0]}: half migrated or damaged; "
                "restore it from a backup"
            )
        return
    if found is None and tables:
        raise StoreCorrupt(
            "the database has tables but no schema version: it is not a remediator's, or half migrated; "
            "restore it from a backup, or configure another database"
        )
    if found is None and connection.dialect.name == "sqlite":
        migrate(connection)
        return
    if found is None:
        raise StoreCorrupt("the database is empty; run 'remediator db migrate' once")
    if found > HEAD:
        raise StoreCorrupt(
            f"the database has schema {found}, but this version knows {HEAD}; start the newer remediator"
        )
    raise StoreCorrupt(f"the database has schema {found}, but this version needs {HEAD}; run 'remediator db migrate'")


def migrate(connection: Connection) -> None:
    """Run the missing migrations in one transaction, while other processes are locked out.

    Raises:
        StoreUnavailable: the database refuses (permissions, space); nothing was changed.
        ConfigurationError: the encoding of the database is not UTF8.
    """
    from alembic.config import Config  # noqa: PLC0415 - 100 ms that no ordinary start needs
    from alembic.runtime.environment import EnvironmentContext  # noqa: PLC0415
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    script = ScriptDirectory.from_config(config)
    postgres = connection.dialect.name == "postgresql"
    if postgres:
        _require_utf8(connection)
    try:
        connection.exec_driver_sql("BEGIN" if postgres else "BEGIN IMMEDIATE")
        if postgres:
            lock_out_others(connection)
        with EnvironmentContext(config, script) as environment:
            environment.configure(
                connection=connection,
                fn=lambda current, context: script._upgrade_revs("head", current),
                transactional_ddl=False,  # Alembic runs inside this open transaction
            )
            environment.run_migrations()
        connection.exec_driver_sql("COMMIT")
    except DBAPIError as error:
        connection.exec_driver_sql("ROLLBACK")
        first = str(error.orig).strip().splitlines()[0]
        raise StoreUnavailable(f"the schema cannot be migrated to {HEAD}: {first}; nothing was changed") from error


def lock_out_others(connection: Connection) -> None:
    """Let no other process change schema or rights of this PostgreSQL database until the transaction ends.

    Replicas that start at once all migrate and grant, and PostgreSQL refuses two changes of one right at the same time.
    """
    connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")


def _require_utf8(connection: Connection) -> None:
    """Refuse a database that cannot hold every text, such as one with the encoding SQL_ASCII.

    Raises:
        ConfigurationError: its encoding is not UTF8.
    """
    encoding = connection.exec_driver_sql("SHOW server_encoding").scalar_one()
    if encoding != "UTF8":
        name, owner = connection.exec_driver_sql("SELECT current_database(), current_user").one()
        raise ConfigurationError(
            f"the database {name} has the encoding {encoding}, and UTF8 is needed; drop it and create it again: "
            f"CREATE DATABASE {name} OWNER {owner} ENCODING 'UTF8' TEMPLATE template0"
        )
