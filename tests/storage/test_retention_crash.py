"""Retention with a crash, with changed settings and with missing entries, and the output of the commands."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner
from sqlalchemy import Connection, delete, select

from remediator.audit import Signer, archive
from remediator.audit.archive import ArchiveError
from remediator.audit.reader import verify_live
from remediator.cli._audit_source import DatabaseLog, WholeLog
from remediator.cli.audit import command
from remediator.cli.audit_verify import NOT_ANCHORED
from remediator.core.clock import SystemClock
from remediator.errors import StoreCorrupt
from remediator.runtime.checkpointing import CheckpointSettings
from remediator.runtime.retention import RetentionSettings, archive_segment
from remediator.storage.repositories import audit as records
from remediator.storage.schema import audit, key_values
from remediator.storage.sqlite import SqliteStore
from tests.storage.test_retention import context_on, fill, sign

pytestmark = pytest.mark.promise(9)

SIGNING = CheckpointSettings("remediator/test", Signer.generate("remediator/test"), {}, 1000, timedelta(minutes=10))
MONTH = timedelta(days=30)


@pytest.fixture
def kind() -> str:
    """Use SQLite, because the tested code is the same for both databases and the killed process needs a file."""
    return "sqlite"


@pytest.fixture
def database(url: str, tmp_path: Path) -> Path:
    """Return the file of a migrated database."""
    assert url
    return tmp_path / "remediator.db"


async def _filled(database: Path, count: int) -> None:
    """Write a signed log with this number of old entries."""
    store = SqliteStore(database, SystemClock())
    await fill(context_on(store), count)
    await sign(context_on(store), SIGNING)
    await store.close()


async def _moved(database: Path, folder: Path, size: int) -> bool:
    store = SqliteStore(database, SystemClock())
    try:
        return await archive_segment(context_on(store), RetentionSettings(folder, MONTH, size))
    finally:
        await store.close()


def _first(connection: Connection) -> int:
    return connection.execute(select(audit.c.seq).order_by(audit.c.seq).limit(1)).scalar_one()


def _verified(connection: Connection, folder: Path) -> bool:
    whole = WholeLog(archive.list_segments(folder), DatabaseLog(connection))
    result = verify_live(whole, start=whole.start, strict=True)
    assert result.ok, result.summary()
    return result.first == 1 and result.last == records.get_head(connection).seq


_CHILD = """
import asyncio, sys
from pathlib import Path
from tests.storage.test_retention_crash import _moved
asyncio.run(_moved(Path(sys.argv[1]), Path(sys.argv[2]), 10))
"""


def _killed(database: Path, folder: Path, moment: str) -> None:
    argv = [sys.executable, "-c", _CHILD, str(database), str(folder)]
    crash = {**os.environ, "REMEDIATOR_CRASH_AT": f"kill@{moment}:archive.sealed"}
    assert subprocess.run(argv, env=crash, check=False).returncode == -9


@pytest.mark.long
@pytest.mark.parametrize("moment", ["before", "after"])
async def test_a_crash_between_segment_and_deletion(
    database: Path, connection: Connection, tmp_path: Path, moment: str
) -> None:
    """After a SIGKILL around the commit of the deletion, the log verifies, and each entry exists once."""
    folder = tmp_path / "archive"
    await _filled(database, 25)
    _killed(database, folder, moment)
    assert [segment.end.seq for segment in archive.list_segments(folder)] == [10]
    assert _first(connection) == (1 if moment == "before" else 11)
    assert _verified(connection, folder)

    while await _moved(database, folder, 10):
        pass
    assert [segment.end.seq for segment in archive.list_segments(folder)] == [10, 20]
    assert _first(connection) == 21 and _verified(connection, folder)


@pytest.mark.long
@pytest.mark.parametrize("size", [4, 12])
async def test_another_segment_size_after_a_crash(
    database: Path, connection: Connection, tmp_path: Path, size: int
) -> None:
    """The existing file keeps its size, and the next file has the new size."""
    folder = tmp_path / "archive"
    await _filled(database, 25)
    _killed(database, folder, "before")
    assert await _moved(database, folder, size) and await _moved(database, folder, size)
    assert [segment.end.seq for segment in archive.list_segments(folder)] == [10, 10 + size]
    assert _first(connection) == 11 + size and _verified(connection, folder)


async def test_entries_that_do_not_verify_are_not_deleted(
    database: Path, connection: Connection, tmp_path: Path
) -> None:
    """A changed entry, or an invalid file in place of the segment, is reported, and every entry stays."""
    folder = tmp_path / "archive"
    await _filled(database, 12)
    connection.execute(audit.update().where(audit.c.seq == 4).values(canonical=b"{}"))
    with pytest.raises(ArchiveError, match="entry 4 was changed"):
        await _moved(database, folder, 10)
    folder.mkdir(exist_ok=True)
    (folder / "audit-000000000001-000000000010.jsonl.gz").write_bytes(b"not a segment")
    with pytest.raises(ArchiveError, match="audit-000000000001"):
        await _moved(database, folder, 10)
    assert _first(connection) == 1


async def test_the_commands_find_the_archive(database: Path, connection: Connection, tmp_path: Path) -> None:
    """verify, search and export read both parts; without the files, the error names the missing entries and their file.

    The commands also find deleted entries that are only said to be archived.
    """
    await _filled(database, 25)
    await _moved(database, tmp_path / "archive", 10)
    at, run = ["--db", str(database)], CliRunner()

    assert "entries 1 to 27 are unchanged" in run.invoke(command, ["verify", *at]).output
    assert len(run.invoke(command, ["search", *at, '"number":3}']).output.splitlines()) == 1
    content = run.invoke(command, ["export", *at]).stdout_bytes
    assert run.invoke(command, ["verify", "--export", "-"], input=content).exit_code == NOT_ANCHORED
    (tmp_path / "archive").rename(tmp_path / "elsewhere")
    alone = run.invoke(command, ["verify", *at])
    assert alone.exit_code == 1 and "entries 1 to 10 are missing" in alone.output
    assert "give its folder with --archive" in alone.output
    elsewhere = [*at, "--archive", str(tmp_path / "elsewhere")]
    assert run.invoke(command, ["verify", *elsewhere]).exit_code == NOT_ANCHORED
    connection.execute(delete(audit).where(audit.c.seq <= 15))
    gone = run.invoke(command, ["verify", *elsewhere])
    assert gone.exit_code == 1 and "entries 11 to 15 are missing" in gone.output


async def test_a_missing_segment_among_others_is_reported(
    database: Path, connection: Connection, tmp_path: Path
) -> None:
    """The report names the missing entries and the searched folder; an overwritten file has its own message."""
    folder, at, run = tmp_path / "archive", ["--db", str(database)], CliRunner()
    await _filled(database, 25)
    assert await _moved(database, folder, 10) and await _moved(database, folder, 10)
    archive.list_segments(folder)[1].path.unlink()
    said = run.invoke(command, ["verify", *at]).output
    assert "entries 11 to 20 are missing" in said and f"no file in {folder} contains them" in said
    connection.execute(key_values.update().where(key_values.c.name == "archived").values(value={}))
    assert isinstance(run.invoke(command, ["verify", *at]).exception, StoreCorrupt)
