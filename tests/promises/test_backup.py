"""A backup of a store in use is complete and of one instant, and a restore overwrites nothing."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import sqlalchemy

from remediator.storage.backup import create_backup
from remediator.storage.migrate import migrate
from tests.support.replicas import CrashingRemediator
from tests.support.servers import DEADLINE, until

pytestmark = [pytest.mark.long, pytest.mark.promise(1)]


def bodies(database: Path) -> set[bytes]:
    """Return the notifications in the inbox of a database file."""
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    found = {bytes(body) for (body,) in connection.execute("SELECT body FROM notifications")}
    connection.close()
    return found


def test_a_backup_under_load_is_restored(tmp_path: Path) -> None:
    """A backup taken under load can be restored.

    The backup has every notification that was acknowledged before it, and its audit log verifies. After the restore the
    service starts with the backup, the replaced data is kept beside it, and the audit log names the person.
    """
    service = CrashingRemediator(tmp_path / "remediator")
    service.playbooks = []
    backup = tmp_path / "backup.db"
    enough, acknowledged = threading.Event(), list[bytes]()

    def pour() -> None:
        number = 0
        while not enough.is_set():
            body = service.notification("firing", alertname="Other", n=str(number))
            if service.post(body)[0] == 200:
                acknowledged.append(body)
            number += 1

    try:
        service.start()
        pouring = threading.Thread(target=pour, daemon=True)
        pouring.start()
        until(lambda: len(acknowledged) > 100, "many are there")
        before = set(acknowledged)
        done = service.command_line("db", "backup", str(backup))
        assert done.returncode == 0, done.stderr
        assert "a backup never overwrites a file" in service.command_line("db", "backup", str(backup)).stderr
        assert (
            "is in use by process" in service.command_line("db", "restore", str(backup), "--actor", "user:ann").stderr
        )
        enough.set()
        pouring.join(60)
        service.stop()

        assert before <= bodies(backup)
        here = service.folder / "state" / "remediator.db"
        was = bodies(here)
        assert was >= set(acknowledged) and was > bodies(backup)
        damaged = tmp_path / "damaged.db"
        damaged.write_bytes(backup.read_bytes()[: backup.stat().st_size // 2])
        assert (
            "not a usable backup" in service.command_line("db", "restore", str(damaged), "--actor", "user:ann").stderr
        )
        assert bodies(here) == was
        done = service.command_line("db", "restore", str(backup), "--actor", "user:ann")
        assert done.returncode == 0, done.stderr
        assert bodies(here) == bodies(backup)
        assert bodies(here.with_name("remediator.db.before-1")) == was
        service.start()
        service.verified()
        assert service.audit_has('"command":"restore"')
    finally:
        enough.set()
        service.kill()


def test_a_large_store_is_copied_to_the_end_while_it_is_written(tmp_path: Path) -> None:
    """A copy in many batches is of one instant and does not restart, although another process writes."""
    database, backup = tmp_path / "remediator.db", tmp_path / "backup.db"
    context = sqlalchemy.create_engine(f"sqlite:///{database}", isolation_level="AUTOCOMMIT")
    with context.connect() as connection:
        migrate(connection)
        connection.exec_driver_sql("PRAGMA journal_mode=WAL")
        connection.exec_driver_sql(
            "INSERT INTO notifications (received_at, source, body) WITH RECURSIVE n(i) AS "
            "(SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 15000) SELECT i, 'webhook', randomblob(3500) FROM n"
        )
    context.dispose()
    with subprocess.Popen([sys.executable, "-c", WRITE, str(database)]) as writer:
        try:
            until(lambda: len(bodies(database)) > 15_000, "it is being written")
            copying = threading.Thread(target=create_backup, args=(database, backup), daemon=True)
            copying.start()
            copying.join(DEADLINE)
            assert not copying.is_alive(), "it begins anew with every write"
            until(lambda: len(bodies(backup)) < len(bodies(database)), "the writer continues")
        finally:
            writer.kill()
    assert len(bodies(backup)) > 15_000


WRITE = """
import sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=60)
while True:
    connection.execute("INSERT INTO notifications (received_at, source, body) VALUES (1, 'webhook', randomblob(9))")
    time.sleep(0.002)
"""
