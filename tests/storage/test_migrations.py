"""On both databases, the migrations lead to the schema in ``schema.py``, and a released migration does not change."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from sqlalchemy import Connection, inspect

from remediator.storage import migrate as module
from remediator.storage.schema import metadata
from tests.storage import indexes  # noqa: F401 - hangs them on the tables
from tests.support import commands
from tests.support.servers.postgres import Postgres

VERSIONS = sorted((Path(module.__file__).parent / "migrations" / "versions").glob("[0-9]*.py"))


@pytest.fixture
def connection(url: str) -> Iterator[Connection]:
    """Return a connection to a migrated database."""
    engine = sqlalchemy.create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as opened:
        yield opened
    engine.dispose()


@pytest.mark.promise(1)
def test_migrations_end_at_the_schema(connection: Connection) -> None:
    """Tables, columns, constraints, comments, and indexes with their conditions are the same."""
    migrated = _shape(connection)
    metadata.drop_all(connection)
    assert not _shape(connection)
    metadata.create_all(connection)
    assert migrated == _shape(connection)
    assert "incident_open" in str(migrated["runs"]["indexes"]["uq_runs_incident"])


def test_the_newest_migration_is_the_head() -> None:
    """The start requires the revision of the newest file."""
    assert VERSIONS[-1].name.startswith(f"{module.HEAD}_")


@pytest.mark.parametrize("path", VERSIONS, ids=lambda path: path.stem)
def test_a_migration_imports_no_code_of_remediator(path: Path) -> None:
    """A migration imports no code of remediator, so later changes of the code do not change it."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert {name.partition(".")[0] for name in names} <= {"__future__", "typing", "alembic", "sqlalchemy"}


@pytest.mark.promise(8)
def test_the_owner_of_the_database_need_not_be_a_superuser(postgres: Postgres) -> None:
    """The owner has the rights that the shipped deployments grant: the migration succeeds, and only archived entries
    can be deleted."""
    postgres.sql("CREATE ROLE owner LOGIN")
    postgres.sql("CREATE DATABASE owned OWNER owner")
    url = sqlalchemy.make_url(postgres.url("owned")).set(drivername="postgresql+psycopg", username="owner")
    engine = sqlalchemy.create_engine(url, isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            module.migrate(connection)
            assert module.revision(connection) == module.HEAD
            assert connection.exec_driver_sql("SELECT remediator_delete_archived(1)").scalar_one() == 0
            assert not connection.exec_driver_sql("SELECT current_setting('remediator.archiving', true)").scalar_one()
    finally:
        engine.dispose()
        postgres.drop("owned")
        postgres.sql("DROP ROLE owner")


def test_another_encoding_is_refused_with_the_create_database_statement(postgres: Postgres, tmp_path: Path) -> None:
    """SQL_ASCII is the default of a cluster without a locale: the error has the CREATE DATABASE statement, and nothing
    is created."""
    postgres.sql("CREATE DATABASE ascii ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
    settings = {"apiVersion": "remediator/v1", "kind": "Config", "store": postgres.url("ascii"), "state": "state"}
    (tmp_path / "remediator.yaml").write_text(json.dumps(settings | {"playbooks": [], "inventory": "inventory.yaml"}))
    try:
        done = commands.remediator("db", "migrate", "--config", str(tmp_path / "remediator.yaml"))
        assert done.returncode == 2, done.stderr
        assert "the database ascii has the encoding SQL_ASCII, and UTF8 is needed" in done.stderr
        assert "ENCODING 'UTF8' TEMPLATE template0" in done.stderr and "Traceback" not in done.stderr
    finally:
        postgres.drop("ascii")


def _shape(connection: Connection) -> dict[str, Any]:
    """Return the tables of a database as plain data."""
    found = inspect(connection)
    return {name: _table(found, name) for name in found.get_table_names() if name != "alembic_version"}


def _table(found: Any, name: str) -> dict[str, Any]:
    postgres = found.dialect.name == "postgresql"
    return {
        "comment": found.get_table_comment(name) if postgres else None,
        "columns": {item["name"]: _plain(item) for item in found.get_columns(name)},
        "key": _plain(found.get_pk_constraint(name)),
        "foreign": {item["name"]: _plain(item) for item in found.get_foreign_keys(name)},
        "unique": {item["name"]: _plain(item) for item in found.get_unique_constraints(name)},
        "checks": {item["name"]: _plain(item) for item in found.get_check_constraints(name)},
        "indexes": {item["name"]: _plain(item) for item in found.get_indexes(name)},
    }


def _plain(item: Any) -> dict[str, Any]:
    """Return types and conditions as text, because two objects of SQLAlchemy are never equal."""
    return {key: _text(value) for key, value in item.items()}


def _text(value: Any) -> Any:
    return {key: str(each) for key, each in value.items()} if isinstance(value, dict) else str(value)
