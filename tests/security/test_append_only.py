"""On PostgreSQL, the role of the service can append to the audit log but not change it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from click.testing import CliRunner
from structlog.testing import capture_logs

from remediator.audit import GENESIS, Draft, Kind, Verification
from remediator.audit.reader import verify_live
from remediator.cli._audit_source import DatabaseLog
from remediator.cli.main import cli
from remediator.errors import StoreUnavailable
from remediator.storage.postgres import PostgresStore
from remediator.storage.repositories import audit
from remediator.storage.url import parse_postgresql_url
from tests.support.servers.postgres import Postgres

pytestmark = pytest.mark.promise(9)
ROLE = "remediator_service"


class Database:
    """A migrated database, its owner, and a role for the service."""

    def __init__(self, server: Postgres, folder: Path) -> None:
        self.server, self.folder = server, folder
        self.name = server.database()
        server.sql(
            f"DO $$ BEGIN CREATE ROLE {ROLE} LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$", self.name
        )
        self.owner = server.url(self.name)
        self.service = self.owner.replace("postgres@", f"{ROLE}@")
        (folder / "owner").write_text(self.owner)
        (folder / "service").write_text(self.service)
        (folder / "remediator.yaml").write_text(
            "{apiVersion: remediator/v1, kind: Config, state: state, playbooks: [], inventory: i.yaml, "
            "store: {url_file: service}, approvals: {keys_file: l}, audit: {key_file: a}}"
        )

    def run(self, *arguments: str) -> Any:
        """Run a command of the command line with the URL of the owner."""
        options = ("--config", str(self.folder / "remediator.yaml"), "--url-file", str(self.folder / "owner"))
        return CliRunner().invoke(cli, ["db", *arguments, *options])

    def open(self, url: str) -> PostgresStore:
        """Open the store as a role."""
        return PostgresStore(parse_postgresql_url(url))

    def make_older(self, until: int) -> None:
        """Make the first entries two days older, which only the owner can do."""
        with psycopg.connect(self.owner, autocommit=True) as connection:
            connection.execute("ALTER TABLE audit DISABLE TRIGGER USER")
            connection.execute("UPDATE audit SET at = at - 172800000000 WHERE seq <= %s", (until,))
            connection.execute("ALTER TABLE audit ENABLE TRIGGER USER")


def migrated(postgres: Postgres, folder: Path) -> Iterator[Database]:
    """Yield a migrated database whose service role has its rights."""
    made = Database(postgres, folder)
    assert made.run("migrate").exit_code == 0
    granted = made.run("grant", ROLE)
    assert granted.exit_code == 0, granted.output
    yield made
    postgres.drop(made.name)


@pytest.fixture
def database(postgres: Postgres, tmp_path: Path) -> Iterator[Database]:
    """Return a database that the test may change."""
    yield from migrated(postgres, tmp_path)


@pytest.fixture(scope="module")
def attacked(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """Return a database for all attacks that are refused. Each test checks that its attack changed nothing."""
    yield from migrated(postgres, tmp_path_factory.mktemp("attacked"))


async def append(store: PostgresStore, number: int) -> None:
    """Append entries to the log."""
    for _ in range(number):
        await store.write(lambda tx: tx.append_audit(Draft(Kind.EVIDENCE, "test")))


ATTACKS = [
    "UPDATE audit SET kind = 'x' WHERE seq = 1",
    "DELETE FROM audit WHERE seq = 2",
    "DELETE FROM audit",
    "TRUNCATE audit",
    "UPDATE audit_head SET seq = 0",
    "DELETE FROM audit_head",
    "ALTER TABLE audit DISABLE TRIGGER ALL",
    "DROP TABLE audit",
    "DROP FUNCTION remediator_delete_archived",
    "SET remediator.archiving = 'on'; DELETE FROM audit WHERE seq = 2",
    "INSERT INTO alembic_version VALUES ('x')",
    "CREATE TABLE mine (a int)",
    "SELECT remediator_delete_archived(3)",
    "SELECT remediator_delete_archived(9223372036854775807)",
    "SET remediator.archiving = 'on'; SELECT remediator_delete_archived(1)",
    "CREATE OR REPLACE FUNCTION remediator_protected_age() RETURNS interval LANGUAGE sql AS $$ SELECT interval '0' $$",
    "CREATE TEMP TABLE audit (seq bigint, at bigint); SELECT remediator_delete_archived(3)",
    "INSERT INTO audit SELECT * FROM audit WHERE seq = 2 ON CONFLICT (seq) DO UPDATE SET kind = 'x'",
    "SELECT * FROM audit WHERE seq = 2 FOR UPDATE",
    "LOCK TABLE audit IN ACCESS EXCLUSIVE MODE",
    "ALTER FUNCTION remediator_delete_archived(bigint) OWNER TO CURRENT_USER",
    "CREATE RULE mine AS ON INSERT TO audit DO INSTEAD NOTHING",
    "CREATE TRIGGER mine BEFORE INSERT ON audit EXECUTE FUNCTION remediator_check_audit_head()",
    "SET session_replication_role = replica",
    "SET ROLE postgres",
    "COPY audit TO PROGRAM 'id'",
    "COPY (SELECT 1) TO '/tmp/remediator-attack'",
    "SELECT pg_read_file('/etc/passwd')",
    "GRANT ALL ON audit TO CURRENT_USER; UPDATE audit SET kind = 'x'",
    "ALTER ROLE CURRENT_USER SUPERUSER",
]


@pytest.mark.parametrize("statement", ATTACKS)
async def test_the_role_of_the_service_can_change_no_entry(attacked: Database, statement: str) -> None:
    """Rights and triggers refuse every change, and the log still verifies."""
    store = attacked.open(attacked.service)
    await append(store, 3)
    before = (await verified(store)).last
    with psycopg.connect(attacked.service, autocommit=True) as connection, pytest.raises(psycopg.Error):
        connection.execute(statement)
    await append(store, 1)
    assert (await verified(store)).last == before + 1
    await store.close()


@pytest.mark.parametrize("statement", ATTACKS[:6])
async def test_the_triggers_refuse_changes_by_the_owner(attacked: Database, statement: str) -> None:
    """The triggers refuse changes by the owner too. Only a superuser can disable them."""
    store = attacked.open(attacked.owner)
    await append(store, 3)
    with (
        psycopg.connect(attacked.owner, autocommit=True) as connection,
        pytest.raises(psycopg.Error, match=r"append-only|only grows"),
    ):
        connection.execute(statement)
    await store.close()


async def test_the_service_can_archive_the_oldest_entries(database: Database) -> None:
    """The role cannot delete entries, but may call the function that removes archived entries of earlier days."""
    store = database.open(database.service)
    await append(store, 5)
    database.make_older(2)
    await store.write(lambda tx: audit.delete_until(tx, 2))
    left = await store.read(lambda connection: [row.seq for row in audit.iterate(connection)])
    assert left == [3, 4, 5]
    await store.close()


async def test_a_superuser_is_warned_about_and_a_role_of_its_own_is_not(database: Database) -> None:
    """With a superuser, the start warns that a stolen password could rewrite the log. With its own role it does not."""
    said: dict[str, list[Any]] = {}
    for url in (database.owner, database.service):
        with capture_logs() as logs:
            await database.open(url).close()
        said[url] = [entry["event"] for entry in logs]
    assert any("is a superuser" in event for event in said[database.owner])
    assert not said[database.service]


async def test_the_error_about_missing_rights_names_the_grant_command(database: Database) -> None:
    """The error names the missing right and the command that grants it."""
    with psycopg.connect(database.owner, autocommit=True) as connection:
        connection.execute(f"REVOKE INSERT ON audit FROM {ROLE}")
    with pytest.raises(StoreUnavailable, match="INSERT on audit; run 'remediator db grant remediator_service'"):
        database.open(database.service)


@pytest.mark.parametrize(("role", "told"), [("postgres", "is a superuser"), ("nobody_here", "there is no role")])
async def test_rights_are_not_granted_to_a_role_that_does_not_fit(database: Database, role: str, told: str) -> None:
    """The command grants nothing to a superuser, which could do everything anyway."""
    done = database.run("grant", role)
    assert done.exit_code != 0
    assert told in f"{done.output}{done.exception}"


async def verified(store: PostgresStore) -> Verification:
    """Verify the log and return the result."""
    result = await store.read(lambda connection: verify_live(DatabaseLog(connection), start=GENESIS))
    assert result.ok, result
    return result
