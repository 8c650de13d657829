"""A start that cannot succeed is refused with one sentence that names the problem, its place and the fix."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from remediator.core.run import ENGINE_VERSION
from remediator.storage.migrate import HEAD
from tests.support.replicas import CrashingRemediator, changed
from tests.support.servers import require, until
from tests.support.servers.postgres import Postgres
from tests.support.servers.remediator import Remediator

pytestmark = [pytest.mark.long, pytest.mark.promise(1)]

RUN = (
    "INSERT INTO runs (id, status, detail, playbook, playbook_hash, target, mode, engine_version, wake_at, "
    "incident_open, holds_target, created_at, updated_at) "
    "VALUES ('run-1', '{status}', '{{}}', 'redis-down', 'hash', 'redis', 'auto', {engine}, 1, true, false, 1, 1)"
)
LATER = RUN.format(status="matched", engine=ENGINE_VERSION + 1)
MUCH_LATER = RUN.format(status="matched", engine=ENGINE_VERSION + 2)
UNHEARD_OF = RUN.format(status="meditating", engine=ENGINE_VERSION)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[CrashingRemediator]:
    """Return a service that is not started."""
    made = CrashingRemediator(tmp_path / "remediator")
    made.playbooks = []
    yield made
    made.kill()


def refusal(service: CrashingRemediator) -> str:
    """Return the one sentence on standard error with which a start fails. Check the exit status."""
    service.write()
    done = service.command_line("serve")
    assert done.returncode in (2, 3), done
    # the log has a warning, because tests connect as superuser
    lines = [line for line in done.stderr.strip().splitlines() if "taken away" not in line and not line.startswith("{")]
    assert len(lines) == 1 and lines[0].startswith("remediator: "), done.stderr
    return lines[0].removeprefix("remediator: ")


def once(service: CrashingRemediator) -> Path:
    """Start and stop the service, and return the path of its database."""
    service.start()
    service.stop()
    return service.folder / "state" / "remediator.db"


def sql(database: Path, statement: str) -> None:
    with sqlite3.connect(database) as connection:
        connection.execute(statement)
    connection.close()


SQLITE = {
    "a newer schema": ("UPDATE alembic_version SET version_num = '9999'", "start the newer remediator"),
    "an older schema": ("UPDATE alembic_version SET version_num = '0000'", "run 'remediator db migrate'"),
    "no version": ("DROP TABLE alembic_version", "not a remediator's, or half migrated; restore it"),
    "a table that is missing": ("DROP TABLE verdicts", "no table verdicts: half migrated or damaged; restore it"),
    "a run of a newer version": (LATER, "start the newer version, and let the run finish there"),
    "a state that nobody knows": (
        UNHEARD_OF,
        "run-1 of redis-down on redis has the unknown status 'meditating'",
    ),
}


@pytest.mark.parametrize("case", SQLITE)
def test_a_database_of_another_version_is_refused(service: CrashingRemediator, case: str) -> None:
    """A newer, older or half-migrated database, or unsupported runs, are refused. After the fix, the service starts."""
    statement, told = SQLITE[case]
    database = once(service)
    kept = database.with_suffix(".kept")
    shutil.copy(database, kept)
    sql(database, statement)

    assert told in refusal(service)
    shutil.copy(kept, database)
    service.start()


def test_a_file_that_is_not_a_database(service: CrashingRemediator) -> None:
    """A text file, half a database and a folder are refused by name and not changed."""
    database = once(service)
    half = database.read_bytes()[: database.stat().st_size // 2]
    for wrong in (b"not a database, and long enough to be looked at" * 100, half):
        database.write_bytes(wrong)
        told = refusal(service)
        assert str(database) in told and "restore it from a backup" in told
        assert database.read_bytes() == wrong
    database.unlink()
    database.mkdir()
    assert str(database) in refusal(service)


def test_a_second_process_on_one_file(service: CrashingRemediator) -> None:
    """The second process fails with an error that names the first one and how to run replicas. The first continues."""
    service.start()
    assert f"is in use by process {service.pid}; stop it, or use PostgreSQL" in refusal(service)
    assert service.ready()


def test_a_wrong_path(service: CrashingRemediator) -> None:
    """A file instead of the folder, and a folder that cannot be created, are refused."""
    (service.folder / "state").write_text("a file")
    assert "the folder cannot be created" in refusal(service)
    service.settings["state"] = "/proc/remediator"
    assert "/proc/remediator: the folder cannot be created" in refusal(service)


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mount a new file system with these options, which needs root."""
    made: list[Path] = []

    def mount(options: str) -> Path:
        place = tmp_path / f"mounted-{len(made)}"
        place.mkdir()
        argv = [require("mount"), "-t", "tmpfs", "-o", options, "none", str(place)]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"may not mount here: {done.stderr.strip()}")
        made.append(place)
        return place

    yield mount
    for place in made:
        subprocess.run([require("umount"), "--lazy", str(place)], check=True)


def test_a_disk_that_is_read_only(service: CrashingRemediator, mounted: Callable[[str], Path]) -> None:
    """A start on a read-only disk is refused, with and without a database on it."""
    disk = mounted("size=64m")
    service.settings["state"] = str(disk)
    service.start()
    service.stop()
    subprocess.run([require("mount"), "-o", "remount,ro", str(disk)], check=True)
    assert f"{disk}/remediator.db: cannot be written: Read-only file system; correct" in refusal(service)
    service.settings["state"] = str(disk / "new")
    assert "the folder cannot be created: Read-only file system; correct its permissions" in refusal(service)


def test_a_file_that_may_not_be_written(service: CrashingRemediator) -> None:
    """A start with a read-only database file is refused, even for root."""
    database = once(service)
    done = subprocess.run([require("chattr"), "+i", str(database)], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"files cannot be made unchangeable here: {done.stderr.strip()}")
    try:
        assert str(database) in refusal(service)
    finally:
        subprocess.run([require("chattr"), "-i", str(database)], check=True)
    service.start()


def test_a_full_disk(service: CrashingRemediator, mounted: Callable[[str], Path]) -> None:
    """With a full disk, the start is refused.

    If the disk fills later, the service answers 503, loses no acknowledged notification, and continues when there is
    space again.
    """
    disk = mounted("size=8m")
    service.settings["state"] = str(disk)
    ballast = disk / "ballast"
    fill(ballast)
    told = refusal(service)
    assert str(disk) in told and "free space" in told
    ballast.unlink()
    service.start()
    acknowledged = [body for body in bodies(service, "before") if service.post(body)[0] == 200]
    fill(ballast)
    statuses = [service.post(body)[0] for body in bodies(service, "full", 40)]
    assert set(statuses) <= {200, 503} and statuses[-1] == 503
    acknowledged += [body for body, status in zip(bodies(service, "full", 40), statuses, strict=True) if status == 200]
    until(lambda: not service.ready(), "it is not ready")
    ballast.unlink()
    until(lambda: service.post(next(bodies(service, "after")))[0] == 200, "it writes again")
    service.kill()
    with sqlite3.connect(f"file:{disk}/remediator.db?mode=ro", uri=True) as connection:
        stored = {bytes(body) for (body,) in connection.execute("SELECT body FROM notifications")}
    connection.close()
    assert stored >= set(acknowledged) and acknowledged


def bodies(service: Remediator, name: str, count: int = 5) -> Iterator[bytes]:
    """Yield notifications of 32 KiB, more than fit into the free space."""
    for number in range(count):
        yield service.notification("firing", alertname="Other", n=f"{name}-{number}", text="x" * 32_768)


def fill(ballast: Path) -> None:
    """Write until the disk is full."""
    with ballast.open("wb") as full:
        try:
            while os.write(full.fileno(), bytes(4096)):
                pass
        except OSError:
            return


def overwritten(file: Path, start: int) -> None:
    """Overwrite the file with random bytes from this position to its end."""
    with file.open("r+b") as open_file:
        open_file.seek(start)
        open_file.write(os.urandom(max(file.stat().st_size - start, 0)))


def test_a_database_that_was_damaged(service: CrashingRemediator) -> None:
    """If pages of the database were overwritten, the start is refused, and the error names the backup."""
    database = once(service)
    for number in range(200):  # enough rows for separate pages of the tables
        sql(database, f"INSERT INTO key_values (name, value, at) VALUES ('{number}', '{'x' * 500}', 1)")
    overwritten(database, 4096)
    told = refusal(service)
    assert str(database) in told and "restore it from a backup" in told


def test_a_database_that_is_damaged_while_it_runs(service: CrashingRemediator) -> None:
    """With overwritten pages, the service answers 503 and never 2xx, is not ready, and names the backup."""
    service.start()
    body = service.notification("firing", alertname="TargetDown", service="redis")
    assert service.post(body)[0] == 200
    database = service.folder / "state" / "remediator.db"
    sql(
        database, "INSERT INTO key_values (name, value, at) VALUES ('x', '1', 1)"
    )  # a change by another process, so the pages in memory are outdated
    overwritten(Path(f"{database}-wal"), 64)
    overwritten(database, 4096)
    for _ in range(5):
        status, answer = service.post(body)
        assert status == 503 and "restore it from a backup" in answer["error"]
    until(lambda: not service.ready(), "it is not ready")  # the service caches the answer to probes for a short time
    assert "Traceback" not in service.log


POSTGRES = {
    "an empty database": ("DROP SCHEMA public CASCADE; CREATE SCHEMA public", "run 'remediator db migrate' once"),
    "a newer schema": ("UPDATE alembic_version SET version_num = '9999'", "start the newer remediator"),
    "an older schema": ("UPDATE alembic_version SET version_num = '0000'", "run 'remediator db migrate'"),
    "no version": ("DROP TABLE alembic_version", "not a remediator's, or half migrated; restore it"),
    "a table that is missing": ("DROP TABLE verdicts", "no table verdicts: half migrated or damaged; restore it"),
    "a run two versions ahead": (MUCH_LATER, "start the newer version, and let the run finish there"),
    "a state that nobody knows": (
        UNHEARD_OF,
        "run-1 of redis-down on redis has the unknown status 'meditating'",
    ),
    "a standby": ("ALTER DATABASE {name} SET default_transaction_read_only = on", "configure the URL of the primary"),
    # PostgreSQL searches its own functions after those of the first schema
    "a clock an hour ahead": (
        "CREATE SCHEMA skew; CREATE FUNCTION skew.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS "
        "'SELECT pg_catalog.clock_timestamp() + interval ''1 hour'''; "
        "ALTER DATABASE {name} SET search_path = skew, pg_catalog, public",
        "s; synchronize both with NTP, then start again",
    ),
}


@pytest.fixture
def replica(service: CrashingRemediator, postgres_url: str) -> CrashingRemediator:
    """Return a service on a migrated PostgreSQL. It is not started."""
    service.settings["store"] = postgres_url
    migrated = service.command_line("db", "migrate")
    assert migrated.stdout == f"schema: none -> {HEAD}\n", migrated.stderr
    return service


@pytest.mark.parametrize("case", POSTGRES)
def test_an_unsuitable_postgresql_is_refused(replica: CrashingRemediator, postgres_url: str, case: str) -> None:
    """A PostgreSQL with another schema version, read-only, or with a wrong clock is refused."""
    statement, told = POSTGRES[case]
    name = postgres_url.partition("@/")[2].partition("?")[0]
    for one in statement.replace("{name}", name).split("; "):
        changed(postgres_url, one)
    assert told in refusal(replica)


def test_a_postgresql_that_is_not_there(service: CrashingRemediator, postgres_url: str) -> None:
    """A closed port, a missing database and a missing user are reported without the password."""
    for url, told in (
        ("postgresql://ann:opensesame@127.0.0.1:1/remediator", "refused"),
        (postgres_url.replace("/test_", "/no_such_"), "does not exist"),
        (postgres_url.replace("postgres@", "nobody:opensesame@"), "does not exist"),
    ):
        service.settings["store"] = url
        said = refusal(service)
        assert told in said and "opensesame" not in said


RIGHTS = (
    ("GRANT SELECT ON ALL TABLES IN SCHEMA public TO {user}", "lacks the right INSERT on"),
    ("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {user}", "USAGE on the sequences"),
    ("GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {user}", ""),
)


def test_a_postgresql_without_rights(replica: CrashingRemediator, postgres: Postgres, postgres_url: str) -> None:
    """The error names the missing right and the command that grants it. With all rights, the service starts."""
    user = "guest_" + postgres_url.partition("@/")[2].partition("?")[0]
    postgres.sql(f"CREATE ROLE {user} LOGIN")
    try:
        replica.settings["store"] = postgres_url.replace("postgres@", f"{user}@")
        assert "GRANT the privileges" in refusal(replica)
        for grant, still in RIGHTS:
            changed(postgres_url, grant.format(user=user))
            if still:
                said = refusal(replica)
                assert still in said and f"'remediator db grant {user}'" in said
        replica.start()
        assert replica.post(replica.notification("firing", alertname="Other"))[0] == 200
        replica.kill()
    finally:
        changed(postgres_url, f"DROP OWNED BY {user}")
        postgres.sql(f"DROP ROLE {user}")
