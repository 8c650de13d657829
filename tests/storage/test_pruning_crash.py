"""Pruning with a crash, with two replicas, and with the query plans of the database."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from sqlalchemy import Connection, UniqueConstraint

from remediator.core.clock import SystemClock
from remediator.runtime.pruning import BATCH_SIZE, PruningSettings, prune
from remediator.storage import Tx, advisory_locks, schema
from remediator.storage.repositories import cleanup as pruned_records
from remediator.storage.sqlite import SqliteStore
from tests.storage import indexes
from tests.storage.conftest import OpenStore
from tests.storage.test_pruning import HANGING, YEAR, context_on, counted, full, names, pruned

pytestmark = [pytest.mark.promise(2), pytest.mark.promise(9)]


async def test_one_replica_at_a_time(open_store: OpenStore, kind: str) -> None:
    """If two replicas prune at the same time, everything is deleted once; the second one skips its turn."""
    stores = [await open_store()] if kind == "sqlite" else [await open_store(), await open_store()]
    at = SystemClock().now() - 2 * YEAR

    def past(tx: Tx) -> None:
        for number in range(150):
            full(tx, f"run-{number}", number, at)

    await stores[0].write(past)
    engines = [context_on(stores[0]), context_on(stores[-1])]
    while await stores[0].read(lambda connection: counted(connection, "runs")):
        await asyncio.gather(*(prune(context, PruningSettings()) for context in engines))
    said = await stores[0].read(pruned)
    assert sum(item["runs"] for item in said) == 150
    assert len({name for item in said for name in item["ids"]}) == 150


async def test_one_replica_holds_the_lock(open_store: OpenStore, kind: str, connection: Connection) -> None:
    """On PostgreSQL, the second replica deletes nothing and does not wait."""
    store = await open_store()
    await store.write(lambda tx: full(tx, "run-1", 1, tx.now - 2 * YEAR))
    if kind == "postgresql":
        connection.exec_driver_sql(f"SELECT pg_advisory_lock({advisory_locks.LOCK_PRUNE})")
        assert await prune(context_on(store), PruningSettings()) is None
        connection.exec_driver_sql(f"SELECT pg_advisory_unlock({advisory_locks.LOCK_PRUNE})")
    assert await prune(context_on(store), PruningSettings()) is not None


def test_pruning_uses_indexes(url: str, kind: str) -> None:
    """Every reference to a deleted row has an index, and the query plans of SQLite use it."""
    assert indexes  # the import adds the indexes to the tables
    for table in schema.metadata.tables.values():
        whole = [each for each in table.indexes if each.dialect_options["sqlite"]["where"] is None]
        unique = [each for each in table.constraints if isinstance(each, UniqueConstraint)]
        found = {next(iter(each.columns.keys()), "") for each in (*whole, *unique, table.primary_key)}
        for key in table.foreign_keys:
            assert key.parent.name in found, f"{table.name}.{key.parent.name}"
    if kind == "sqlite":
        plans = _plans(url)
        scans = [plan for plan in plans if plan.startswith("SCAN")]
        assert plans and scans == ["SCAN playbook_versions"], "of which there are as many as people have written"


_VERSIONS = "SELECT playbook_versions"


def _plans(url: str) -> list[str]:
    """Return the query plan of SQLite for each statement of a batch."""
    said: list[str] = []
    context = sqlalchemy.create_engine(url)

    def explain(connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool) -> None:
        if statement.startswith(("SELECT runs", "SELECT episodes", "SELECT messages", "DELETE", _VERSIONS)):
            rows = connection.connection.cursor().execute(f"EXPLAIN QUERY PLAN {statement}", parameters)
            said.extend(row[3] for row in rows)

    sqlalchemy.event.listen(context, "before_cursor_execute", explain)
    with context.begin() as connection:
        connection.exec_driver_sql("PRAGMA foreign_keys=ON")
        now = SystemClock().now()
        tx = Tx(connection, now)
        full(tx, "run-1", 1, now - 2 * YEAR)
        assert pruned_records.delete_runs(tx, now - YEAR, 10, sealed=True) == ["run-1"]
        assert pruned_records.delete_episodes(tx, now - YEAR, 10) == 1
        pruned_records.delete_messages(tx, now - YEAR, 10)
        pruned_records.delete_playbook_versions(tx, now - YEAR, 10, active=["h"])
    context.dispose()
    return said


_CHILD = """
import asyncio, sys
from pathlib import Path
from tests.storage.test_pruning_crash import prune_all
asyncio.run(prune_all(Path(sys.argv[1])))
"""


async def prune_all(path: Path) -> None:
    """Delete everything that is due, in this process."""
    store = SqliteStore(path, SystemClock())
    while await prune(context_on(store), PruningSettings()) is not None:
        pass
    await store.close()


@pytest.mark.long
@pytest.mark.parametrize("moment", ["before", "after"])
async def test_a_crash_while_pruning_is_consistent(tmp_path: Path, moment: str) -> None:
    """After a SIGKILL around the commit of the second batch, only whole batches are deleted, each with its entry.

    The next turn continues, and open runs are not changed.
    """
    path = tmp_path / "remediator.db"
    store = SqliteStore(path, SystemClock())
    at = SystemClock().now() - 2 * YEAR

    def past(tx: Tx) -> None:
        for number in range(3 * BATCH_SIZE):
            full(tx, f"run-{number}", number, at + timedelta(minutes=number))
        full(tx, "run-open", 3 * BATCH_SIZE, at, status="awaiting_approval", finished_at=None, incident_open=True)

    await store.write(past)
    await store.close()
    crash = {**os.environ, "REMEDIATOR_CRASH_AT": f"kill@{moment}:history.pruned#2"}
    argv = [sys.executable, "-c", _CHILD, str(path)]
    assert subprocess.run(argv, env=crash, check=False).returncode == -9

    for expected in ((1 if moment == "before" else 2), 3):
        store = SqliteStore(path, SystemClock())
        left = await store.read(lambda connection: {table: counted(connection, table) for table in ("runs", *HANGING)})
        assert set(left.values()) == {(3 - expected) * BATCH_SIZE + 1}
        assert [item["runs"] for item in await store.read(pruned)] == [BATCH_SIZE] * expected
        assert "run-open" in await store.read(lambda connection: names(connection, "runs"))
        await store.close()
        await prune_all(path)
