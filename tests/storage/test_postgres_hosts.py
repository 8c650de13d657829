"""The hosts of PostgreSQL: each form of URL is parsed, and a server that became a standby is not used."""

from __future__ import annotations

import pytest
import sqlalchemy

from remediator.errors import ConfigurationError
from remediator.storage.postgres import PostgresStore
from remediator.storage.url import parse_postgresql_url
from tests.support.servers.postgres import Postgres

SEVERAL = {"host": "a,b", "port": "5433,5432", "target_session_attrs": "read-write"}
UNDERSTOOD = {
    "postgresql://u:p%40@h:5433/d": ("h", 5433, {}),
    "postgres://u:p@h/d": ("h", None, {}),
    "postgresql://u:p@a:5433,b/d": (None, None, SEVERAL),
    "postgresql://a:5433,b:5432/d": (None, None, SEVERAL),
    "postgresql://u:p@[::1]:1,[::2]/d": (None, None, SEVERAL | {"host": "::1,::2", "port": "1,5432"}),
    "postgresql://u:p@a:5433,b/d?target_session_attrs=any": (None, None, SEVERAL | {"target_session_attrs": "any"}),
}
PASSWORD = "s3cr3t-of-a-database"


@pytest.mark.parametrize("text, meant", UNDERSTOOD.items(), ids=list(UNDERSTOOD))
def test_every_form_of_url_is_parsed(text: str, meant: tuple[str | None, int | None, dict[str, str]]) -> None:
    """The URL has one host, or several hosts in the form of libpq; ``postgres://`` means the same as
    ``postgresql://``."""
    url = parse_postgresql_url(text)
    assert (url.host, url.port, dict(url.query)) == (*meant[:2], {"client_encoding": "utf8"} | meant[2])
    assert (url.drivername, url.database) == ("postgresql+psycopg", "d")


@pytest.mark.parametrize(
    "text",
    [
        PASSWORD,
        f"mysql://u:{PASSWORD}@h/d",
        f"postgresql://u:{PASSWORD}@h:port/d",
        f"postgresql://u:{PASSWORD}@:x@h:5432/d",
        f"postgresql:/u:{PASSWORD}@h/d",
    ],
)
def test_an_invalid_url_is_reported_without_its_password(text: str) -> None:
    """The error shows a valid URL and no password, because many people can read the log."""
    with pytest.raises(ConfigurationError) as refused:
        parse_postgresql_url(text)
    assert "'store'" in str(refused.value) and "postgresql://user:password@host:port/database" in str(refused.value)
    assert PASSWORD not in str(refused.value)


async def test_the_writable_host_of_several_is_used(postgres: Postgres, migrated_url: str) -> None:
    """If the first host is down, the client connects to the next writable one."""
    name = str(sqlalchemy.make_url(migrated_url).database)
    several = postgres.url(name, tcp=True).replace("127.0.0.1", "127.0.0.1:1,127.0.0.1")
    store = PostgresStore(parse_postgresql_url(several))
    await store.accept("test", b"{}")
    assert await store.read(lambda found: found.exec_driver_sql("SELECT count(*) FROM notifications").scalar()) == 1
    await store.close()


async def test_a_server_that_became_a_standby_is_not_used(migrated_url: str) -> None:
    """A read-only connection is closed, so the next connection can reach the new primary."""
    url = parse_postgresql_url(migrated_url)
    store = PostgresStore(url)
    before = await store.write(lambda tx: tx.connection.exec_driver_sql("SELECT pg_backend_pid()").scalar())
    await store.write(lambda tx: tx.connection.exec_driver_sql("SET default_transaction_read_only = on"))
    await store.write(lambda tx: tx.connection.exec_driver_sql("DELETE FROM key_values"))
    after = await store.write(lambda tx: tx.connection.exec_driver_sql("SELECT pg_backend_pid()").scalar())
    assert before != after
    await store.close()
