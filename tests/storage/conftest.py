"""Fixtures of the tests of the store: each test with ``store`` runs on a SQLite file and on a PostgreSQL server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import sqlalchemy
from sqlalchemy import Connection

from remediator.core.clock import SystemClock
from remediator.storage import Store
from remediator.storage.postgres import PostgresStore
from remediator.storage.sqlite import SqliteStore
from tests.support.stores import new_file

KINDS = ("sqlite", "postgresql")

OpenStore = Callable[[], Awaitable[Store]]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """Return the kind of database."""
    return str(request.param)


@pytest.fixture
def url(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """Return the SQLAlchemy URL of a migrated database."""
    if kind == "sqlite":
        return f"sqlite:///{new_file(tmp_path / 'remediator.db')}"
    plain = sqlalchemy.make_url(request.getfixturevalue("migrated_url"))
    request.getfixturevalue("postgres").sql(  # these tests archive recent entries
        "CREATE OR REPLACE FUNCTION remediator_protected_age() RETURNS interval LANGUAGE sql IMMUTABLE "
        "AS $$ SELECT interval '0' $$",
        plain.database,
    )
    return plain.set(drivername="postgresql+psycopg").render_as_string(hide_password=False)


@pytest.fixture
async def open_store(kind: str, url: str) -> AsyncIterator[OpenStore]:
    """Return a function that opens the store; several stores on PostgreSQL are several replicas."""
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
    """Return an open, empty store."""
    return await open_store()


@pytest.fixture
def connection(url: str) -> Iterator[Connection]:
    """Return a separate connection to the same database."""
    engine = sqlalchemy.create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connected:
        yield connected
    engine.dispose()
