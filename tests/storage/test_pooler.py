"""PgBouncer in front of PostgreSQL: both usable modes work, and the third mode is refused with an error."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy
from sqlalchemy import Connection

from remediator.errors import StoreUnavailable
from remediator.storage import TOPIC_RUNS, Tx, postgres_connection
from remediator.storage.postgres import PostgresStore
from remediator.storage.url import open_engine, parse_postgresql_url
from tests.support.servers.pgbouncer import PgBouncer
from tests.support.servers.postgres import Postgres

pytestmark = pytest.mark.promise(14)
MODES = [("session", False), ("transaction", False), ("transaction", True)]
"""Each mode, with whether PgBouncer rotates the servers, which reveals a client that relies on one server."""
TIMEOUTS = {"lock_timeout": "10s", "statement_timeout": "30s", "idle_in_transaction_session_timeout": "15s"}


@pytest.fixture(params=MODES, ids=["session", "transaction", "transaction-round-robin"])
def pooler(request: pytest.FixtureRequest, postgres: Postgres, tmp_path: Path) -> Iterator[PgBouncer]:
    """Start a pooler."""
    mode, round_robin = request.param
    server = PgBouncer(tmp_path / "pgbouncer", postgres, mode, round_robin=round_robin)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def url(pooler: PgBouncer, migrated_url: str) -> sqlalchemy.URL:
    """Return the URL of a migrated database through the pooler."""
    return parse_postgresql_url(pooler.url(str(sqlalchemy.make_url(migrated_url).database)))


def settings(connection: Connection) -> dict[str, str]:
    """Return the active timeouts, and whether a commit waits for its fsync."""
    names = (*TIMEOUTS, "synchronous_commit")
    return {name: str(connection.exec_driver_sql(f"SHOW {name}").scalar()) for name in names}


async def test_every_transaction_has_its_timeouts_and_is_fsynced(pooler: PgBouncer, url: sqlalchemy.URL) -> None:
    """The role does not wait for the fsync by default, and other clients share the servers."""
    pooler.server.sql("ALTER ROLE postgres SET synchronous_commit = off")
    store = PostgresStore(url)
    try:
        wanted = {**TIMEOUTS, "synchronous_commit": "on"}
        for _ in range(5):
            assert await store.write(lambda tx: settings(tx.connection)) == wanted
            assert await store.read(settings) == wanted
    finally:
        await store.close()
        pooler.server.sql("ALTER ROLE postgres RESET synchronous_commit")
    if pooler.mode == "transaction":
        left = parse_postgresql_url(pooler.url(str(url.database)))
        engine = sqlalchemy.create_engine(left, connect_args={"prepare_threshold": None})
        with engine.connect() as other:
            assert settings(other)["lock_timeout"] == "0", "another client of the pooler got our timeouts"
        engine.dispose()


async def test_concurrent_readers_and_writers_see_no_error(url: sqlalchemy.URL) -> None:
    """Each statement is used often on many server connections, on which prepared statements would fail."""
    store = PostgresStore(url)

    async def use(number: int) -> None:
        for turn in range(30):
            await store.accept("test", f"{{}} {number} {turn}".encode())
            await store.read(lambda connection: connection.exec_driver_sql("SELECT count(*) FROM notifications"))

    try:
        await asyncio.gather(*(use(number) for number in range(8)))
        counted = await store.read(lambda found: found.exec_driver_sql("SELECT count(*) FROM notifications").scalar())
        assert counted == 8 * 30
    finally:
        await store.close()


async def test_the_mode_is_detected_and_listen_is_optional(pooler: PgBouncer, url: sqlalchemy.URL) -> None:
    """In session mode, LISTEN works. In transaction mode it is not used, because the pooler would lose it."""
    first, second = PostgresStore(url), PostgresStore(url)
    try:
        assert first.description == f"postgresql through a pooler in {pooler.mode} mode"
        await first.write(lambda tx: None)  # start the listener
        first.wakeups.consume(TOPIC_RUNS)
        heard = False
        for _ in range(20):
            await second.write(lambda tx: tx.notify(TOPIC_RUNS))
            await asyncio.sleep(0.1)
            heard = heard or first.wakeups.consume(TOPIC_RUNS)
        assert heard == (pooler.mode == "session")
    finally:
        await first.close()
        await second.close()


def test_a_direct_connection_is_no_pooler(migrated_url: str) -> None:
    """A direct connection is not taken for a pooler, and each transaction has its timeouts and waits for the fsync."""
    engine = open_engine(parse_postgresql_url(migrated_url))
    with engine.connect() as connection:
        assert not postgres_connection.is_pooled(connection)
        postgres_connection.begin(connection)
        assert settings(connection) == {**TIMEOUTS, "synchronous_commit": "on"}
        connection.exec_driver_sql("ROLLBACK")
    engine.dispose()


@pytest.mark.parametrize(
    "mode, size, says", [("statement", 20, "transaction blocks not allowed"), ("session", 1, "query_wait_timeout")]
)
def test_a_pooler_that_cannot_work_is_refused_at_the_start(
    postgres: Postgres, migrated_url: str, tmp_path: Path, mode: str, size: int, says: str
) -> None:
    """A pooler in statement mode, or with one server connection, is refused with an error of one line."""
    server = PgBouncer(tmp_path / "pgbouncer", postgres, mode, size)
    server.start()
    try:
        with pytest.raises(StoreUnavailable, match=says) as refused:
            PostgresStore(parse_postgresql_url(server.url(str(sqlalchemy.make_url(migrated_url).database))))
        assert "pool" in str(refused.value) and "\n" not in str(refused.value)
    finally:
        server.stop()


async def test_a_frozen_server_is_disconnected(
    postgres: Postgres, migrated_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A frozen server keeps its connections. A writer that waits forever would not use the new primary."""
    url = parse_postgresql_url(migrated_url)
    monkeypatch.setattr(postgres_connection, "ANSWER_TIMEOUT", 0.5)
    store = PostgresStore(url)

    def slow(tx: Tx) -> None:
        tx.connection.exec_driver_sql("SELECT pg_sleep(3)")

    try:
        with pytest.raises(StoreUnavailable):
            await store.write(slow)
        assert await store.write(lambda tx: 1) == 1, "the next work has a connection of its own"
    finally:
        await store.close()
