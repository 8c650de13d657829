"""A direct write of a command is one transaction with its audit entries, or nothing, on both databases."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import psycopg
import pytest
import sqlalchemy

from remediator.cli import _direct_store
from remediator.config import Config
from remediator.errors import InputError, StoreCorrupt, StoreUnavailable
from remediator.playbooks.loader import load_config
from remediator.runtime.store_access import read_only_connection
from remediator.storage import Tx
from remediator.storage.repositories import audit, stops
from tests.support.stores import new_file


@pytest.fixture(params=["sqlite", "postgresql"])
def config(request: pytest.FixtureRequest, tmp_path: Path) -> Config:
    """Return settings whose database has the schema of this version."""
    store = "sqlite" if request.param == "sqlite" else request.getfixturevalue("migrated_url")
    made = _config(tmp_path, store)
    made.state.mkdir()
    if store == "sqlite":
        new_file(made.state / "remediator.db")
    return made


def _config(folder: Path, store: str) -> Config:
    path = folder / "remediator.yaml"
    path.write_text(
        "apiVersion: remediator/v1\nkind: Config\nstate: state\nplaybooks: []\ninventory: inventory.yaml\n"
        f"store: {store}\n"
    )
    return load_config(path, Config)


def _create(tx: Tx) -> str:
    stops.create(tx, "stop-1", "global", "", "test", "user:ann")
    return "created"


def test_a_write_is_committed_with_its_audit_entry(config: Config) -> None:
    """A stop and its audit entry are committed together, even if the inventory does not exist."""
    assert _direct_store.write(config, _create) == "created"
    with read_only_connection(config) as connection:
        stop = stops.get(connection, "stop-1")
        assert stop is not None and stop.created_by == "user:ann"
        assert [entry.kind for entry in audit.iterate(connection)] == ["stop.set"]


def test_an_error_leaves_nothing_behind(config: Config) -> None:
    """An error during the write is raised unchanged, and the transaction is rolled back."""

    def fail(tx: Tx) -> None:
        _create(tx)
        raise InputError("no")

    with pytest.raises(InputError, match="no"):
        _direct_store.write(config, fail)
    with read_only_connection(config) as connection:
        assert stops.get(connection, "stop-1") is None
        assert list(audit.iterate(connection)) == []


def test_a_database_error_is_a_store_error(config: Config) -> None:
    """A database error ends the command with a message instead of a traceback."""

    def fail(tx: Tx) -> None:
        tx.connection.exec_driver_sql("SELECT 1 FROM no_such_table")

    with pytest.raises(StoreUnavailable):
        _direct_store.write(config, fail)


def test_replicas_are_notified(migrated_url: str, tmp_path: Path) -> None:
    """PostgreSQL notifies the replicas, so a stop takes effect at once."""
    config = _config(tmp_path, migrated_url)
    with closing(psycopg.connect(migrated_url, autocommit=True)) as listener:
        listener.execute("LISTEN remediator")
        _direct_store.write(config, _create)
        assert next(iter(listener.notifies(timeout=60))).payload == "runs"


def test_a_missing_or_old_database_is_an_error(tmp_path: Path) -> None:
    """The error names the command that creates or migrates the database."""
    config = _config(tmp_path, "sqlite")
    config.state.mkdir()
    with pytest.raises(StoreUnavailable, match="remediator db migrate"):
        _direct_store.write(config, _create)
    engine = sqlalchemy.create_engine(f"sqlite:///{new_file(config.state / 'remediator.db')}")
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0000'")
    engine.dispose()
    with pytest.raises(StoreCorrupt, match="remediator db migrate"):
        _direct_store.write(config, _create)


def test_a_command_uses_the_settings_of_the_service(tmp_path: Path) -> None:
    """On SQLite, a direct write has the service's settings, so its commit is fsynced like those of the service."""
    config = _config(tmp_path, "sqlite")
    config.state.mkdir()
    new_file(config.state / "remediator.db")
    statements = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "cache_size": -8000, "temp_store": 2}
    found = _direct_store.write(
        config, lambda tx: {name: tx.connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in statements}
    )
    assert found == statements
