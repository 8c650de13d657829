"""One suite, two databases: every test here that takes ``store`` runs on a file and on a server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import sqlalchemy
from sqlalchemy import Connection

from remediator.core.clock import SystemClock
from remediator.storage import Store
from remediator.storage.migrate import migrate
from remediator.storage.postgres import PostgresStore
from remediator.storage.sqlite import SqliteStore

KINDS = ("sqlite", "postgresql")

OpenStore = Callable[[], Awaitable[Store]]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """Which database."""
    return str(request.param)


@pytest.fixture
def url(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """Where a migrated database is, for SQLAlchemy."""
    if kind == "sqlite":
        at = f"sqlite:///{tmp_path / 'remediator.db'}"
    else:
        plain = sqlalchemy.make_url(request.getfixturevalue("postgres_url"))
        at = plain.set(drivername="postgresql+psycopg").render_as_string(hide_password=False)
    engine = sqlalchemy.create_engine(at, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        migrate(connection)
        if kind == "postgresql":  # these tests archive what they have just written
            connection.exec_driver_sql(
                "CREATE OR REPLACE FUNCTION remediator_protected_age() RETURNS interval LANGUAGE sql IMMUTABLE "
                "AS $$ SELECT interval '0' $$"
            )
    engine.dispose()
    return at


@pytest.fixture
async def open_store(kind: str, url: str) -> AsyncIterator[OpenStore]:
    """Open the store; more than once on PostgreSQL is more than one replica."""
    async with AsyncExitStack() as stack:

        async def open_() -> Store:
            at = sqlalchemy.make_url(url)
            store: Store = (
                SqliteStore(Path(str(at.database)), SystemClock())
                if kind == "sqlite"
                else PostgresStore(at.set(drivername="postgresql+psycopg"))
            )
            stack.push_async_callback(store.close)
            return store

        yield open_


@pytest.fixture
async def store(open_store: OpenStore) -> Store:
    """An open store with nothing in it."""
    return await open_store()


@pytest.fixture
def connection(url: str) -> Iterator[Connection]:
    """A connection beside the store's own, to look and to disturb."""
    engine = sqlalchemy.create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connected:
        yield connected
    engine.dispose()
