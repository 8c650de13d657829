"""A database that replaced another one: recorded once, and claims from before are refused."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy
from sqlalchemy import Connection, text

from remediator.core.run import Run, Status
from remediator.core.run_detail import CancelledDetail
from remediator.errors import Fenced
from remediator.storage import Replacement, Store, Tx, replacement
from remediator.storage.postgres import PostgresStore
from remediator.storage.postgres_replication import server
from remediator.storage.replacement import Incarnation
from remediator.storage.repositories import run_claims, run_transitions, runs
from remediator.storage.url import open_engine, parse_postgresql_url

pytestmark = [pytest.mark.promise(3), pytest.mark.promise(4)]
OLD, NEW = Incarnation("1/00000001", False), Incarnation("1/00000002", False)


@pytest.fixture
def engine(migrated_url: str) -> Iterator[sqlalchemy.Engine]:
    """Return a migrated PostgreSQL database."""
    made = open_engine(parse_postgresql_url(migrated_url))
    yield made
    made.dispose()


def test_two_replicas_that_notice_a_failover_at_the_same_time_record_it_once(engine: sqlalchemy.Engine) -> None:
    """The second replica waits for the transaction of the first one, and then records nothing."""
    now = datetime.now(UTC)

    def notice(connection: Connection) -> int:
        tx = Tx(connection, now)
        replacement.record_if_new(tx, NEW)
        return len(tx.drafts)

    def notice_later() -> int:
        with engine.connect() as connection:
            connection.exec_driver_sql("BEGIN")
            found = notice(connection)
            connection.exec_driver_sql("COMMIT")
            return found

    with engine.connect() as first, ThreadPoolExecutor(1) as pool:
        replacement.record_if_new(Tx(first, now), OLD)
        first.exec_driver_sql("BEGIN")
        assert notice(first) == 1
        second = pool.submit(notice_later)
        waiting = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
        with engine.connect() as observer:
            while not observer.execute(waiting).scalar_one():
                assert not second.done(), "the second replica did not wait for the first one"
        first.exec_driver_sql("COMMIT")
        assert second.result(30) == 0


def claimed(tx: Tx) -> Run:
    """Create and claim a run."""
    runs.create(tx, "run-1", "redis-down", "hash", "redis", "auto", "test")
    (run,) = run_claims.claim_due(tx, "remediator-0", timedelta(seconds=60), 1)
    return run


@pytest.mark.parametrize("lossless", [True, False])
async def test_earlier_claims_are_refused_if_commits_may_be_lost(store: Store, lossless: bool) -> None:
    """The lease stays, so no other process starts while a call of the first process may be in progress."""
    run = await store.write(claimed)
    await store.write(lambda tx: replacement.record(tx, "failover", "test", lossless=lossless))
    assert not await store.write(lambda tx: run_claims.claim_due(tx, "remediator-1", timedelta(seconds=60), 1))

    def go_on(tx: Tx) -> Run:
        return run_transitions.transition(tx, run, Status.CANCELLED, None, CancelledDetail(), "test")

    if lossless:
        assert (await store.write(go_on)).status is Status.CANCELLED
    else:
        with pytest.raises(Fenced):
            await store.write(go_on)
        with pytest.raises(Fenced):
            await store.write(lambda tx: run_claims.renew_lease(tx, run, timedelta(seconds=60)))


@pytest.mark.parametrize("claims", [1, 5])
async def test_a_claim_from_a_lost_commit_is_refused(store: Store, claims: int) -> None:
    """The process released the run and claimed it again; the database lost the second claim, so it is refused."""
    run = await store.write(claimed)
    lost = replace(run, fence=run.fence + claims)
    await store.write(lambda tx: replacement.record(tx, "failover", "test"))
    with pytest.raises(Fenced):
        await store.write(lambda tx: run_claims.renew_lease(tx, lost, timedelta(seconds=60)))


async def test_a_failover_behind_a_pooler_that_keeps_the_connection_is_noticed(
    engine: sqlalchemy.Engine, migrated_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pooler keeps the connection although the server changes, so each transaction compares the server."""
    monkeypatch.setattr("remediator.storage.postgres_connection.is_pooled", lambda connection: True)
    store = PostgresStore(parse_postgresql_url(migrated_url))
    try:
        await store.write(lambda tx: None)
        assert store.replaced is None
        monkeypatch.setattr("remediator.storage.postgres.server", lambda connection: NEW.server)
        monkeypatch.setattr("remediator.storage.postgres.incarnation", lambda connection: NEW)
        await store.write(lambda tx: None)
        assert isinstance(store.replaced, Replacement) and not store.replaced.lossless
    finally:
        await store.close()


async def test_a_process_knows_its_server_if_the_failover_lost_the_record(
    engine: sqlalchemy.Engine, migrated_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The standby was behind and has no record of the lost primary, so the process must remember it."""
    store = PostgresStore(parse_postgresql_url(migrated_url))
    try:
        await store.write(lambda tx: None)
        with engine.begin() as connection:
            connection.exec_driver_sql("DELETE FROM key_values WHERE name = 'incarnation'")
            connection.exec_driver_sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
                "AND pid <> pg_backend_pid()"
            )
        monkeypatch.setattr("remediator.storage.postgres.incarnation", lambda connection: NEW)
        await store.write(lambda tx: None)
        assert isinstance(store.replaced, Replacement) and not store.replaced.lossless
        await store.write(lambda tx: None)
        with engine.connect() as connection:
            entries = connection.execute(text("SELECT count(*) FROM audit WHERE kind = 'store.replaced'")).scalar_one()
        assert entries == 1
    finally:
        await store.close()


async def test_a_failover_record_states_whether_commits_waited_for_a_standby(
    engine: sqlalchemy.Engine, migrated_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record of a failover states whether the lost primary waited for a standby, so that no commits were lost."""
    store = PostgresStore(parse_postgresql_url(migrated_url))
    try:
        await store.write(lambda tx: None)
        monkeypatch.setattr("remediator.storage.postgres.is_synchronous", lambda connection: True)
        found = Incarnation(await store.read(server), True)
        monkeypatch.setattr("remediator.storage.postgres.incarnation", lambda connection: found)
        await store.failover_risk()
        await store.write(lambda tx: replacement.record_if_new(tx, NEW))
        last = await store.read(replacement.last)
        assert last is not None and last.lossless
    finally:
        await store.close()
