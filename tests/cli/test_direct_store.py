"""Direct writes of commands, on both databases: one transaction, with its audit entries, or nothing."""

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
from remediator.runtime.store_access import read_only_connection, store_url
from remediator.storage import Tx
from remediator.storage.migrate import migrate
from remediator.storage.repositories import audit, stops


@pytest.fixture(params=["sqlite", "postgresql"])
def config(request: pytest.FixtureRequest, tmp_path: Path) -> Config:
    """Return settings whose database has the schema of this version."""
    store = "sqlite" if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    made = _config(tmp_path, store)
    made.state.mkdir()
    url = sqlalchemy.make_url(f"sqlite:///{made.state / 'remediator.db'}") if store == "sqlite" else store_url(made)
    engine = sqlalchemy.create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        migrate(connection)
    engine.dispose()
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
    """The inventory does not exist: a stop must not depend on it."""
    assert _direct_store.write(config, _create) == "created"
    with read_only_connection(config) as connection:
        stop = stops.get(connection, "stop-1")
        assert stop is not None and stop.created_by == "user:ann"
        assert [entry.kind for entry in audit.iterate(connection)] == ["stop.set"]


def test_an_error_leaves_nothing_behind(config: Config) -> None:
    """The error of the work is raised as it is, and the transaction is rolled back."""

    def fail(tx: Tx) -> None:
        _create(tx)
        raise InputError("no")

    with pytest.raises(InputError, match="no"):
        _direct_store.write(config, fail)
    with read_only_connection(config) as connection:
        assert stops.get(connection, "stop-1") is None
        assert list(audit.iterate(connection)) == []


def test_a_database_error_is_a_store_error(config: Config) -> None:
    """The command ends with a message instead of a traceback."""

    def fail(tx: Tx) -> None:
        tx.connection.exec_driver_sql("SELECT 1 FROM no_such_table")

    with pytest.raises(StoreUnavailable):
        _direct_store.write(config, fail)


def test_replicas_are_notified(postgres_url: str, tmp_path: Path) -> None:
    """PostgreSQL tells the replicas that there is work, so that a stop is seen at once."""
    config = _config(tmp_path, postgres_url)
    engine = sqlalchemy.create_engine(store_url(config), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        migrate(connection)
    engine.dispose()
    with closing(psycopg.connect(postgres_url, autocommit=True)) as listener:
        listener.execute("LISTEN remediator")
        _direct_store.write(config, _create)
        assert next(iter(listener.notifies(timeout=60))).payload == "runs"


def test_a_missing_or_old_database_is_an_error(tmp_path: Path) -> None:
    """The message names the command that creates or migrates it."""
    config = _config(tmp_path, "sqlite")
    config.state.mkdir()
    with pytest.raises(StoreUnavailable, match="remediator db migrate"):
        _direct_store.write(config, _create)
    engine = sqlalchemy.create_engine(f"sqlite:///{config.state / 'remediator.db'}", isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        migrate(connection)
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0000'")
    engine.dispose()
    with pytest.raises(StoreCorrupt, match="remediator db migrate"):
        _direct_store.write(config, _create)
