"""A PostgreSQL that playbooks act on: remediator's role with exactly its rights, sessions of others, and a standby."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
import pytest

from remediator.playbooks.inventory import Service
from tests.support.action_runner import service
from tests.support.servers import until
from tests.support.servers.postgres import Postgres, _folder

ROLE = "remediator"
STATEMENTS: dict[str, dict[str, Any]] = {
    "release-jobs": {
        "update": "shop.jobs",
        "set": {"state": "'queued'", "worker": "NULL"},
        "where": "state = 'running' AND queue = %(queue)s AND locked_at < now() - interval '1 hour'",
        "values": {"queue": {"enum": ["mail", "images", "o'neill"]}},
        "max_rows": 5,
    },
    "delete-sessions": {
        "delete": "shop.sessions",
        "where": "shop = %(shop)s AND note NOT LIKE '%%keep%%'",
        "values": {"shop": {"type": "integer", "minimum": 1, "maximum": 100}},
        "max_rows": 3,
    },
}
TABLES = (
    "CREATE SCHEMA shop",
    "SET search_path = shop",
    "CREATE TABLE jobs (id int PRIMARY KEY, queue text, state text, worker text, locked_at timestamptz, secret text)",
    "CREATE TABLE sessions (id int PRIMARY KEY, shop int, note text NOT NULL DEFAULT '')",
    "CREATE TABLE items (id int PRIMARY KEY, session int REFERENCES sessions ON DELETE CASCADE)",
)


class Target:
    """A database with tables of an application, and the sessions that a test opens in it."""

    def __init__(self, server: Postgres, database: str) -> None:
        self.server = server
        self.database = database
        self.sessions: list[psycopg.Connection[Any]] = []

    def sql(self, statement: str) -> str:
        """Run a statement as superuser."""
        return self.server.sql(statement, self.database)

    def service(self, **more: Any) -> Service:
        """Return the service of an inventory."""
        endpoint = {"port": self.server.port, "database": self.database, "statements": STATEMENTS, **more}
        return service("postgresql", postgres=endpoint)

    def grant(self, *statements: str) -> None:
        """Run statements as superuser."""
        self.sql("; ".join(statements))

    def open(self, application: str = "shop", *, user: str = "shop", database: str | None = None) -> Any:
        """Open a session of the application."""
        where = {"host": "127.0.0.1", "port": self.server.port, "dbname": database or self.database}
        made = psycopg.connect(**where, user=user, application_name=application, autocommit=True)
        self.sessions.append(made)
        return made

    def is_there(self, session: Any) -> bool:
        """Return whether the server has this session."""
        return self.server.sql(f"SELECT count(*) FROM pg_stat_activity WHERE pid = {pid(session)}") == "1"

    def close(self) -> None:
        """Close all sessions."""
        for session in self.sessions:
            with suppress(psycopg.Error):
                session.close()


def pid(session: Any) -> int:
    """Return the process ID of a session."""
    return int(session.info.backend_pid)


def make_target(server: Postgres) -> Target:
    """Create a database with its tables, the role of the application, and that of remediator without any right."""
    for role in (ROLE, "shop"):
        if server.sql(f"SELECT count(*) FROM pg_roles WHERE rolname = '{role}'") == "0":
            server.sql(f"CREATE ROLE {role} LOGIN")
    target = Target(server, server.database())
    target.grant(
        *TABLES,
        f"ALTER DATABASE {target.database} SET search_path = shop, public",
        "GRANT USAGE ON SCHEMA shop TO shop; GRANT ALL ON ALL TABLES IN SCHEMA shop TO shop",
    )
    return target


@pytest.fixture
def bare_target(postgres: Postgres) -> Iterator[Target]:
    """Return a database on the shared server, on which remediator has no rights yet."""
    target = make_target(postgres)
    target.grant(f"REVOKE pg_monitor, pg_signal_backend FROM {ROLE}")
    yield target
    target.close()
    postgres.drop(target.database)


@pytest.fixture
def pg_target(bare_target: Target) -> Target:
    """Return a database on the shared server, on which remediator has its rights."""
    bare_target.grant(*rights(bare_target.service()))
    return bare_target


def rights(target: Service) -> tuple[str, ...]:
    """Return the SQL of docs/how-to/act-on-postgresql.md for the statements of a service."""
    from remediator.clients.postgres.client import SETUP  # noqa: PLC0415 - the docs have the same text

    assert target.postgres is not None
    per_statement = [grant for each in target.postgres.statements.values() for grant in each.grants(ROLE)]
    return (
        f"GRANT pg_monitor, pg_signal_backend TO {ROLE}",
        *SETUP,
        f"GRANT USAGE ON SCHEMA remediator TO {ROLE}",
        f"GRANT SELECT, INSERT ON remediator.applied_calls TO {ROLE}",
        *per_statement,
    )


_slots = count()


def start_standby(primary: Postgres, name: str = "standby") -> Postgres:
    """Copy a primary with pg_basebackup and start the copy as its standby, with a slot."""
    standby = Postgres(_folder())
    standby.settings = {"hot_standby": "on"}
    primary.sql(f"SELECT pg_create_physical_replication_slot('{name}')")
    where = f"host={primary.data} port={primary.port} user=postgres application_name={name}"
    if primary.user():
        shutil.chown(standby.folder, "postgres", "postgres")
    standby._run("pg_basebackup", "-D", str(standby.data), "-d", where, "-R", "-X", "stream", "-S", name, "-c", "fast")
    standby.start()
    until(lambda: primary.sql("SELECT state FROM pg_stat_replication") == "streaming", "the standby streams")
    return standby


def remove(server: Postgres) -> None:
    """Stop a server and remove its folder."""
    server.kill()
    shutil.rmtree(Path(server.folder))
