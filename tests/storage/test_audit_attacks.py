"""Attacks on the stored audit log: a kill during a write, two writers, a full disk, and an old copy of the database.

Each attack is impossible, or is found and named; acknowledged entries are not lost.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection

from remediator.audit import Problem, Verification, checkpoint, decode
from remediator.audit import keys as audit_keys
from remediator.audit.reader import verify_live
from remediator.audit.verification import Anchors
from remediator.cli._audit_source import DatabaseLog, LogPlace
from remediator.extensions.witnesses.file import FileWitness
from remediator.runtime.checkpointing import CheckpointSettings, create_checkpoint
from remediator.storage import Store
from remediator.storage.repositories import audit as records
from tests.storage.test_retention import context_on
from tests.support.audit_appender import SIGN, append, opened, signing

pytestmark = [pytest.mark.long, pytest.mark.promise(9)]

PLACES = [
    f"kill@{moment}:{place}"
    for place in ("operator.command#7", "checkpoint.signed#2", "checkpoint.published#2")
    for moment in ("before", "after")
]


def _argv(url: str, folder: Path, name: str, count: int) -> list[str]:
    return [sys.executable, "-m", "tests.support.audit_appender", url, str(folder), name, str(count)]


def _notes(folder: Path) -> Iterator[str]:
    for path in sorted(folder.glob("checkpoints.*")):
        yield from checkpoint.find_notes(path.read_text(errors="replace"))


def _verified(connection: Connection, folder: Path) -> Verification:
    keys = audit_keys.load_verifiers(folder / "audit.key.pub")
    return verify_live(DatabaseLog(connection), Anchors(_notes(folder), keys), strict=True)


def _texts(connection: Connection) -> Counter[str]:
    rows = records.iterate(connection, kind="operator.command")
    return Counter(decode(row.canonical).data["text"] for row in rows)


def _all_once(connection: Connection, acknowledged: list[str]) -> bool:
    texts = _texts(connection)
    return set(acknowledged) <= texts.keys() and set(texts.values()) == {1}


@pytest.mark.parametrize("place", PLACES)
def test_a_crash_in_an_append_or_a_checkpoint(url: str, connection: Connection, tmp_path: Path, place: str) -> None:
    """After a SIGKILL, acknowledged entries exist once, log and checkpoints agree, and the chain continues."""
    crash = {**os.environ, "REMEDIATOR_CRASH_AT": place}
    first = subprocess.run(_argv(url, tmp_path, "a", 40), env=crash, capture_output=True, text=True, check=False)
    assert first.returncode == -9, first.stderr
    left = _verified(connection, tmp_path)
    assert left.ok, left.summary()
    second = subprocess.run(_argv(url, tmp_path, "a", 10), capture_output=True, text=True, check=True)

    assert _all_once(connection, (first.stdout + second.stdout).split())
    after = _verified(connection, tmp_path)
    assert after.ok and after.checkpoints[-1] > left.last, after.summary()


def test_a_crash_at_any_time(url: str, connection: Connection, tmp_path: Path) -> None:
    """A SIGKILL from outside at any time, several times, has the same result."""
    acknowledged = []
    for lines in (1, 7, 12, 20):
        argv = _argv(url, tmp_path, "a", 10_000)
        with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            acknowledged += [child.stdout.readline().strip() for _ in range(lines)]
            child.kill()
        result = _verified(connection, tmp_path) if (tmp_path / "audit.key.pub").exists() else None
        assert result is None or result.ok, result
    assert len(acknowledged) == 40 and _all_once(connection, acknowledged)


@pytest.mark.parametrize("kind", ["postgresql"], indirect=True)
def test_two_replicas_append_at_once(url: str, connection: Connection, tmp_path: Path) -> None:
    """Two processes write and sign in one PostgreSQL database.

    The log is one chain with every entry of both processes, and no number occurs twice. All checkpoints belong to it.
    """
    count = 150
    argvs = [[*_argv(url, tmp_path, name, count), "together"] for name in ("a", "b")]
    both: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    running = [subprocess.Popen(argv, **both) for argv in argvs]
    assert [child.stdout and child.stdout.readline() for child in running] == ["open\n", "open\n"]
    for child in running:
        assert child.stdin is not None
        print(file=child.stdin, flush=True)
    said = [child.communicate()[0].split() for child in running]

    assert [child.returncode for child in running] == [0, 0]
    assert [len(lines) for lines in said] == [count, count]
    assert _all_once(connection, [*said[0], *said[1]])
    names = [decode(row.canonical).data["text"][0] for row in records.iterate(connection, kind="operator.command")]
    assert sum(one != other for one, other in pairwise(names)) > 2, "they never met: this shows nothing"
    result = _verified(connection, tmp_path)
    assert result.ok and len(set(result.checkpoints)) > count // SIGN, result.summary()


_NO_ROOM = """
import asyncio, resource, sys
from pathlib import Path
from typing import Any
from remediator.errors import StoreUnavailable
from tests.support.audit_appender import append, opened

async def main() -> None:
    store = opened(sys.argv[1])
    await append(store, "room")
    print("room", flush=True)
    used = max(path.stat().st_size for path in Path(sys.argv[2]).glob("remediator.db*"))
    resource.setrlimit(resource.RLIMIT_FSIZE, (used + 100_000, resource.RLIM_INFINITY))
    try:
        for number in range(1000):
            await append(store, f"full-{number}" + "x" * 2000)
            print(f"full-{number}" + "x" * 2000, flush=True)
    except StoreUnavailable as error:
        print(f"! {error}", flush=True)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    await append(store, "again")
    print("again", flush=True)
    await store.close()

asyncio.run(main())
"""


@pytest.mark.parametrize("kind", ["sqlite"], indirect=True)
def test_a_full_disk_refuses_appends_to_the_log(url: str, connection: Connection, tmp_path: Path) -> None:
    """On a full disk, appends fail with a reason and leave no partial data; after space is freed, they continue."""
    argv = [sys.executable, "-c", _NO_ROOM, url, str(tmp_path)]
    lines = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.splitlines()
    [said] = [line for line in lines if line.startswith("!")]
    acknowledged = [line for line in lines if line != said]

    assert "full" in said or "disk" in said
    assert 2 < len(acknowledged) < 1000 and acknowledged[-1] == "again"
    # an unacknowledged write may exist completely or not at all, but never in part
    assert _all_once(connection, acknowledged) and len(_texts(connection)) <= len(acknowledged) + 1
    assert verify_live(DatabaseLog(connection), strict=True).ok


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system without free space."""
    folder = tmp_path / "full"
    folder.mkdir()
    mount = ("mount", "-t", "tmpfs", "-o", "size=64k", "remediator-test", str(folder))
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root can mount a small file system")
    with suppress(OSError), (folder / "ballast").open("wb", buffering=0) as file:
        while file.write(b"x" * 4096):
            pass
    yield folder
    subprocess.run(("umount", "-l", str(folder)), check=True, capture_output=True)


async def test_a_witness_on_a_full_disk_is_reported_and_retried(
    store: Store, connection: Connection, tmp_path: Path, full_disk: Path
) -> None:
    """The log names the witness on the full disk, the other witness keeps the checkpoint, and the next one is tried
    again."""
    kept = signing(tmp_path, "a")
    settings = replace(kept, witnesses={"full": FileWitness(full_disk / "checkpoints.notes"), **kept.witnesses})
    await append(store, "before")
    await create_checkpoint(context_on(store), settings, await store.read(records.get_head))
    [failed] = records.iterate(connection, kind="checkpoint.failed")
    data = decode(failed.canonical).data

    assert data["witness"] == "full" and "No space left on device" in data["message"]
    assert len(list(records.iterate(connection, kind="checkpoint.published"))) == 1
    assert _verified(connection, tmp_path).checkpoints == (1,)


@pytest.mark.parametrize("kind", ["sqlite"], indirect=True)
async def test_an_old_copy_restored(url: str, connection: Connection, tmp_path: Path) -> None:
    """Later checkpoints prove that a database is old, also after new entries are written to it."""
    database = tmp_path / "remediator.db"
    settings = signing(tmp_path, "a")
    await _grow(url, 10, settings)
    shutil.copyfile(database, tmp_path / "yesterday")
    await _grow(url, 10, settings)
    assert _verified(connection, tmp_path).ok
    connection.close()

    shutil.copyfile(tmp_path / "yesterday", database)
    put_back = _named(database, tmp_path)
    assert put_back[0] is Problem.TRUNCATED and "old copy" in put_back[1]
    await _grow(url, 30, settings)
    assert _named(database, tmp_path)[0] is Problem.REWRITTEN


async def _grow(url: str, count: int, settings: CheckpointSettings) -> None:
    store = opened(url)
    for number in range(count):
        await append(store, f"entry {number}")
    await create_checkpoint(context_on(store), settings, await store.read(records.get_head))
    await store.close()


def _named(database: Path, folder: Path) -> tuple[Problem, str]:
    notes, keys = _notes(folder), audit_keys.load_verifiers(folder / "audit.key.pub")
    with LogPlace(Path(), database).open() as log:
        finding = verify_live(log, Anchors(notes, keys)).findings[0]
    return finding.problem, finding.message
