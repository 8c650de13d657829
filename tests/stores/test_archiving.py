"""Retention: old entries leave the database for files, nothing is lost on the way, and all of it still verifies."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner
from sqlalchemy import Connection, delete, func, select

from remediator import archive
from remediator.archive import ArchiveError
from remediator.archiving import Archiving, archive_once, begins
from remediator.audit import Draft, Kind, Signer
from remediator.audit.reader import verify_live
from remediator.checkpointing import Checkpointing, checkpoint_now
from remediator.cli.audit import command
from remediator.cli.source import DatabaseLog, WholeLog
from remediator.clock import SystemClock
from remediator.engine import Engine
from remediator.records import audit as records
from remediator.stores import Store
from remediator.stores.schema import audit
from tests.guards.town import Health, engine
from tests.stores.conftest import OpenStore

pytestmark = pytest.mark.promise(9)

SIGNER = Signer.generate("remediator/test")
SIGNING = Checkpointing("remediator/test", SIGNER, {}, 1000, timedelta(minutes=10))
AT_ONCE = timedelta(seconds=-1)  # nothing is too young to move


def _engine(store: Store) -> Engine:
    return engine(store, SystemClock(), [], Health(), "a")


async def _appended(store: Store, count: int) -> None:
    for number in range(count):
        draft = Draft(kind=Kind.OPERATOR_COMMAND, actor="user:ann", data={"number": number})
        await store.write(lambda tx, one=draft: tx.audit(one))  # type: ignore[misc]


async def _signed(replica: Engine) -> None:
    """A checkpoint over all that there is; the entry about it comes after."""
    await checkpoint_now(replica, SIGNING, await replica.store.read(records.head))


def _live(connection: Connection) -> list[int]:
    return list(connection.execute(select(audit.c.seq).order_by(audit.c.seq)).scalars())


def _verified(connection: Connection, folder: Path) -> bool:
    segments = archive.segments(folder)
    whole = WholeLog(segments, DatabaseLog(connection))
    result = verify_live(whole, start=whole.start, strict=True)
    assert result.ok, result.sentence()
    return result.first == 1 and result.last == records.head(connection).seq


async def test_old_entries_move_and_all_of_it_verifies(store: Store, connection: Connection, tmp_path: Path) -> None:
    """Whole segments leave; the rest stays; archive and database are one log that verifies; the move is an entry."""
    replica, settings = _engine(store), Archiving(tmp_path / "archive", AT_ONCE, 10)
    await _appended(store, 27)
    await _signed(replica)
    moved = [await archive_once(replica, settings) for _ in range(3)]

    assert moved == [True, True, False]
    assert _live(connection)[0] == 21 and begins(connection).seq == 20
    assert [segment.end.seq for segment in archive.segments(settings.folder)] == [10, 20]
    assert _verified(connection, settings.folder)
    [entry] = [row for row in records.entries(connection, kind="archive.sealed") if row.seq == 29]
    assert b'"first":1' in entry.canonical and b"audit-000000000001-000000000010.jsonl.gz" in entry.canonical


async def test_the_database_stays_bounded(store: Store, connection: Connection, tmp_path: Path) -> None:
    """Whatever is appended, no more than a segment and what was not signed for yet is left."""
    replica, settings = _engine(store), Archiving(tmp_path / "archive", AT_ONCE, 20)
    for _ in range(6):
        await _appended(store, 30)
        await _signed(replica)
        while await archive_once(replica, settings):
            pass
        assert connection.execute(select(func.count()).select_from(audit)).scalar_one() <= 30
    assert _verified(connection, settings.folder)


async def test_what_is_young_or_unsigned_stays(store: Store, connection: Connection, tmp_path: Path) -> None:
    """Entries younger than the time to keep, and those that no checkpoint covers yet, do not leave."""
    replica = _engine(store)
    await _appended(store, 25)
    assert not await archive_once(replica, Archiving(tmp_path / "archive", AT_ONCE, 10))
    await _signed(replica)
    assert not await archive_once(replica, Archiving(tmp_path / "archive", timedelta(days=1), 10))
    assert _live(connection) == list(range(1, 27)) and not (tmp_path / "archive").exists()


async def test_replicas_move_a_segment_once(
    store: Store, open_store: OpenStore, kind: str, connection: Connection, tmp_path: Path
) -> None:
    """Two replicas that see the same old entries: one moves them, the other finds that done."""
    if kind == "sqlite":
        pytest.skip("one process")
    other, settings = _engine(await open_store()), Archiving(tmp_path / "archive", AT_ONCE, 10)
    replica = _engine(store)
    await _appended(store, 30)
    await _signed(replica)
    for one in (replica, other, other, replica):
        await archive_once(one, settings)
    assert [segment.end.seq for segment in archive.segments(settings.folder)] == [10, 20, 30]
    assert _verified(connection, settings.folder)


async def test_another_files_name_deletes_nothing(store: Store, connection: Connection, tmp_path: Path) -> None:
    """A file in the place with other entries, or a log that was changed: said, and every entry stays."""
    replica, settings = _engine(store), Archiving(tmp_path / "archive", AT_ONCE, 10)
    await _appended(store, 12)
    await _signed(replica)
    connection.execute(audit.update().where(audit.c.seq == 4).values(canonical=b"{}"))
    with pytest.raises(ArchiveError, match="does not verify"):
        await archive_once(replica, settings)
    assert len(_live(connection)) == 13
    settings.folder.mkdir(exist_ok=True)
    (settings.folder / "audit-000000000001-000000000010.jsonl.gz").write_bytes(b"not a segment")
    with pytest.raises(ArchiveError, match="audit-000000000001"):
        await archive_once(replica, settings)
    assert len(_live(connection)) == 13


_CHILD = """
import asyncio, sys
from datetime import timedelta
from pathlib import Path
from tests.stores.test_archiving import AT_ONCE, _engine
from remediator.archiving import Archiving, archive_once
from remediator.clock import SystemClock
from remediator.stores.sqlite import SqliteStore

async def main() -> None:
    store = SqliteStore(Path(sys.argv[1]), SystemClock())
    await archive_once(_engine(store), Archiving(Path(sys.argv[2]), AT_ONCE, 10))
    await store.close()

asyncio.run(main())
"""


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_a_crash_between_file_and_deletion_loses_nothing(
    open_store: OpenStore, kind: str, connection: Connection, tmp_path: Path, moment: str
) -> None:
    """kill -9 with the file written and the deletion not committed, or just committed: it verifies as it is left, and
    the next look goes on from there, with one copy of each entry."""
    if kind != "sqlite":
        pytest.skip("the place of the crash is in code that both databases share")
    store = await open_store()
    await _appended(store, 25)
    await _signed(_engine(store))
    await store.close()
    folder = tmp_path / "archive"
    argv = [sys.executable, "-c", _CHILD, str(tmp_path / "remediator.db"), str(folder)]
    crash = {**os.environ, "REMEDIATOR_CRASH_AT": f"kill@{moment}:archive.sealed"}
    assert subprocess.run(argv, env=crash, check=False).returncode == -9

    assert [segment.end.seq for segment in archive.segments(folder)] == [10]
    assert _live(connection)[0] == (1 if moment == "before" else 11)
    assert _verified(connection, folder)
    for _ in range(3):
        subprocess.run(argv, check=True)
    assert [segment.end.seq for segment in archive.segments(folder)] == [10, 20]
    assert _live(connection)[0] == 21 and _verified(connection, folder)


async def test_the_command_finds_the_archive_by_itself(
    open_store: OpenStore, kind: str, connection: Connection, tmp_path: Path
) -> None:
    """verify, search and export read both parts; without the files, entries are missing, and where they went is said;
    who deletes entries and pretends that they were archived is found."""
    if kind != "sqlite":
        pytest.skip("--db is a file")
    store = await open_store()
    await _appended(store, 25)
    await _signed(_engine(store))
    await archive_once(_engine(store), Archiving(tmp_path / "archive", AT_ONCE, 10))
    await store.close()
    database = ["--db", str(tmp_path / "remediator.db")]
    run = CliRunner()

    assert "entries 1 to 27 are as they were written" in run.invoke(command, ["verify", *database]).output
    found = run.invoke(command, ["search", *database, '"number":3'])
    assert len(found.output.splitlines()) == 1
    content = run.invoke(command, ["export", *database]).stdout_bytes
    assert run.invoke(command, ["verify", "--export", "-"], input=content).exit_code == 0
    (tmp_path / "archive").rename(tmp_path / "elsewhere")
    alone = run.invoke(command, ["verify", *database])
    assert alone.exit_code == 1 and "entries 1 to 10 are missing" in alone.output
    assert "give --archive FOLDER" in alone.output
    elsewhere = [*database, "--archive", str(tmp_path / "elsewhere")]
    assert run.invoke(command, ["verify", *elsewhere]).exit_code == 0
    connection.execute(delete(audit).where(audit.c.seq <= 15))
    gone = run.invoke(command, ["verify", *elsewhere])
    assert gone.exit_code == 1 and "entries 11 to 15 are missing" in gone.output
