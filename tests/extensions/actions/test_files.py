"""The ``files.*`` actions on real folders and on a small real filesystem: only planned files move, and all can be
restored."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from remediator.clients.host import disk
from remediator.core.clock import SystemClock
from remediator.core.outcome import Outcome
from remediator.errors import Refused, TargetError
from remediator.extensions import bindings
from remediator.extensions.actions.base import Action, EffectStatus
from remediator.extensions.clientset import ClientSet
from remediator.extensions.registry import Registry
from remediator.playbooks.inventory import Service
from tests.support.action_runner import do, observe, plan, service, undo
from tests.support.reduced_rights import nobody
from tests.support.servers.redis import Redis

ACTIONS: dict[str, Action] = Registry().make_actions(ClientSet())
PRUNE = ACTIONS["files.prune"]
DAY = 86_400


@dataclass
class Place:
    """A folder of backups and its quarantine."""

    folder: Path
    quarantine: Path
    snapshot: Path

    def backup(self, name: str, age: int, size: int | None = None) -> Path:
        """Write a complete backup of this age in days, or an incomplete backup if ``size`` is given."""
        path = self.folder / name
        if size is None:
            shutil.copy(self.snapshot, path)
        else:
            path.write_bytes(b"\0" * size)
        at = time.time() - DAY * age
        os.utime(path, (at, at))
        return path

    def names(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir() if not path.name.startswith("."))

    def service(self, **more: Any) -> Service:
        where = {"path": str(self.folder), "quarantine": str(self.quarantine), "keep": 2, **more}
        return service("redis", backups=where, disk={"path": str(self.folder.parent)})


@pytest.fixture
def elsewhere() -> Iterator[Path]:
    """Return a folder on another filesystem than the temporary files of the tests."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture
def place(tmp_path: Path, redis_server: Redis, elsewhere: Path) -> Place:
    """Return five complete daily backups, the newest from today, and a quarantine on another filesystem."""
    redis_server.ask("SET", "key", "x" * 1000)
    redis_server.ask("SAVE")
    folder = tmp_path / "data" / "backups"
    folder.mkdir(parents=True)
    made = Place(folder, elsewhere / "quarantine", redis_server.folder / "dump.rdb")
    for age in range(5):
        made.backup(f"dump-{age}.rdb", age)
    return made


async def test_the_newest_backups_stay_and_moved_ones_are_restored(place: Place) -> None:
    """The newest backups stay. The moved backups are listed, and the undo restores them byte for byte."""
    before = {name: (place.folder / name).read_bytes() for name in place.names()}
    call = await plan(PRUNE, place.service())
    result = await do(PRUNE, place.service(), call=call)

    assert result.outcome is Outcome.OK
    assert place.names() == ["dump-0.rdb", "dump-1.rdb"]
    assert (await observe(PRUNE, place.service(), call)).happened is EffectStatus.YES
    await undo(PRUNE, ACTIONS, place.service(), call, result)
    assert {name: (place.folder / name).read_bytes() for name in place.names()} == before


async def test_age_and_goal_limit_the_moved_backups(place: Place) -> None:
    """Only backups above the age limit are moved, and no more than the goal needs."""
    call = await plan(PRUNE, place.service(), older_than="84h")
    assert [each["name"] for each in call.arguments["files"]] == ["dump-4.rdb"]

    with pytest.raises(TargetError, match="can be moved"):
        await plan(PRUNE, place.service(), goal_percent=99)


async def test_without_a_complete_backup_none_is_moved(place: Place) -> None:
    """If no backup is complete, none is moved, because an incomplete backup may be the last one."""
    for name in place.names():
        (place.folder / name).write_bytes(b"REDIS nonsense")

    with pytest.raises(TargetError, match=r"none of the newest backups in .* is complete, so no backup is moved"):
        await plan(PRUNE, place.service())
    assert len(place.names()) == 5


async def test_a_backup_of_a_newer_redis_is_not_called_broken(place: Place) -> None:
    """If the installed tool cannot read the format, the error reports this, and no backup is moved."""
    for path in place.folder.glob("*.rdb"):
        path.write_bytes(path.read_bytes().replace(b"REDIS0010", b"REDIS0099", 1))
    with pytest.raises(
        TargetError, match=r"has RDB version 99, which .* does not know; install the tools of the Redis"
    ):
        await plan(PRUNE, place.service())
    assert len(place.names()) == 5


async def test_the_newest_complete_backup_stays(place: Place) -> None:
    """Newer incomplete backups do not count among those to keep."""
    place.backup("dump-now.rdb", 0, size=100)
    place.backup("dump-now2.rdb", 0, size=100)
    os.utime(place.folder / "dump-0.rdb", (time.time() - DAY, time.time() - DAY))

    call = await plan(PRUNE, place.service())
    assert {"dump-now.rdb", "dump-now2.rdb"} < set(call.arguments["kept"])
    assert any(name in call.arguments["kept"] for name in ("dump-0.rdb", "dump-1.rdb"))


async def test_links_and_other_files_are_not_moved(place: Place, tmp_path: Path) -> None:
    """Symbolic links, folders and files with other names are neither moved nor followed."""
    outside = tmp_path / "precious.rdb"
    shutil.copy(place.snapshot, outside)
    (place.folder / "link.rdb").symlink_to(outside)
    (place.folder / "folder.rdb").mkdir()
    (place.folder / "notes.txt").write_text("mine")

    await do(PRUNE, place.service())
    assert outside.exists()
    assert {"link.rdb", "folder.rdb", "notes.txt"} <= set(place.names())


async def test_a_folder_that_is_a_link_is_refused(place: Place, tmp_path: Path) -> None:
    """A folder that was replaced by a symbolic link is refused."""
    elsewhere = tmp_path / "elsewhere"
    place.folder.rename(elsewhere)
    place.folder.symlink_to(elsewhere)

    with pytest.raises(TargetError, match="cannot open the directory"):
        await plan(PRUNE, place.service())


async def test_a_file_that_changed_since_the_plan_stays(place: Place, tmp_path: Path) -> None:
    """A planned file that changed stays, also if it was replaced by a symbolic link to another file."""
    call = await plan(PRUNE, place.service())
    precious = tmp_path / "precious"
    precious.write_text("keep me")
    (place.folder / "dump-4.rdb").unlink()
    (place.folder / "dump-4.rdb").symlink_to(precious)

    with pytest.raises(TargetError, match=r"dump-4\.rdb"):
        await do(PRUNE, place.service(), call=call)
    assert precious.read_text() == "keep me"
    assert (place.folder / "dump-3.rdb").exists()


async def test_a_file_that_was_rewritten_stays(place: Place) -> None:
    """A file with the same name and other content, or a removed file, is not moved."""
    call = await plan(PRUNE, place.service())
    (place.folder / "dump-4.rdb").write_bytes(b"another")

    with pytest.raises(TargetError, match="was changed after planning"):
        await do(PRUNE, place.service(), call=call)
    assert (place.folder / "dump-4.rdb").read_bytes() == b"another"


async def test_a_partial_prune_is_observed_and_continued(place: Place) -> None:
    """After a partial prune, an observation lists the remaining files, and a new plan moves them."""
    call = await plan(PRUNE, place.service())
    (place.folder / "dump-3.rdb").unlink()

    seen = await observe(PRUNE, place.service(), call)
    assert (seen.happened, seen.facts) == (EffectStatus.NO, {"left": 2})


async def test_a_new_file_with_the_same_name_is_not_replaced(place: Place) -> None:
    """The undo does not replace a new file that has the name of a moved file."""
    call = await plan(PRUNE, place.service())
    result = await do(PRUNE, place.service(), call=call)
    (place.folder / "dump-4.rdb").write_text("new")

    with pytest.raises(TargetError, match="exists again"):
        await undo(PRUNE, ACTIONS, place.service(), call, result)
    assert (place.folder / "dump-4.rdb").read_text() == "new"


async def test_an_unknown_batch_is_not_restored(place: Place) -> None:
    """``files.undo_prune`` accepts only the name of a batch, never a path."""
    with pytest.raises(TargetError, match="there is no batch"):
        await do(ACTIONS["files.undo_prune"], place.service(), batch="20260101T000000000000")
    with pytest.raises(ValidationError):
        ACTIONS["files.undo_prune"].Parameters.model_validate({"batch": "../../etc"})


async def test_after_the_grace_the_next_prune_deletes(place: Place) -> None:
    """Deletion happens only after the grace period, and only for planned files."""
    await do(PRUNE, place.service())
    place.backup("dump-9.rdb", 9)

    class Later(SystemClock):
        def now(self) -> Any:
            return super().now() + timedelta(days=2)

    later = Registry().make_actions(ClientSet(clock=Later()))["files.prune"]
    result = await do(later, place.service(grace="1d"))
    assert len(list(place.quarantine.glob("*.json"))) == 1
    assert result.output["moved"] == ["dump-9.rdb"]


async def test_expired_batches_are_deleted_without_other_backups_to_move(place: Place) -> None:
    """If all remaining backups must be kept, the plan still shows the deletion of the expired batches.

    The quarantine is on the disk of the backups.
    """
    place.quarantine = place.folder.parent / "quarantine"

    class Later(SystemClock):
        def now(self) -> Any:
            return super().now() + timedelta(days=2)

    await do(PRUNE, place.service())
    later = Registry().make_actions(ClientSet(clock=Later()))["files.prune"]
    call = await plan(later, place.service(grace="1d"))
    assert call.text.startswith("delete these batches from quarantine permanently: ")
    assert (await observe(later, place.service(), call)).happened is EffectStatus.NO
    measured = await later.cost(place.service(grace="1d"), later.Parameters(), call)
    assert measured.deleted_bytes is not None and measured.deleted_bytes > 0
    result = await do(later, place.service(grace="1d"), call=call)
    assert (result.outcome, result.output["freed"]) == (Outcome.OK, measured.deleted_bytes)
    assert list(place.quarantine.iterdir()) == []
    assert (await observe(later, place.service(), call)).happened is EffectStatus.YES


async def test_who_fills_the_disk(place: Place) -> None:
    """Usage is reported by kind with the biggest files; symbolic links and other filesystems do not count."""
    data = place.folder.parent
    (data / "appendonlydir").mkdir()
    (data / "appendonlydir/appendonly.aof.1.incr.aof").write_bytes(b"x" * 500_000)
    (data / "temp-123.rdb").write_bytes(b"x" * 10_000)
    (data / "link.aof").symlink_to("/dev/zero")

    result = await do(ACTIONS["files.disk_use"], place.service())
    assert result.output["culprit"] == "aof"
    assert result.output["top"][0]["file"] == "appendonlydir/appendonly.aof.1.incr.aof"
    assert result.output["kinds"]["backups"] > 0 and result.output["kinds"]["temporary"] > 0


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """Mount a filesystem of 4 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small filesystem")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "test", str(folder)], check=False)
    if mounted.returncode:
        pytest.skip("this kernel mounts nothing for us")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


async def test_a_full_disk_is_emptied_to_its_goal(place: Place, small: Path) -> None:
    """With the quarantine on another disk, space is free at once, and no more files move than the goal needs."""
    full = Place(small / "backups", place.quarantine, place.snapshot)
    full.folder.mkdir()
    for age in range(7):
        path = full.backup(f"dump-{age}.rdb", age)
        with path.open("ab") as file:
            file.write(b"\0" * 512 * 1024)
        os.utime(path, (time.time() - DAY * age,) * 2)

    given = {"goal_percent": 60}
    result = await do(PRUNE, full.service(verify="none"), **given)
    assert result.output["percent"] <= 60
    assert full.names() == ["dump-0.rdb", "dump-1.rdb", "dump-2.rdb", "dump-3.rdb"]


async def test_a_mount_below_the_folder_is_ignored(place: Place, small: Path) -> None:
    """The usage does not include other filesystems that are mounted below the folder."""
    (small / "elsewhere.bin").write_bytes(b"x" * 1_000_000)
    inventory = service("redis", disk={"path": str(small.parent)})

    result = await do(ACTIONS["files.disk_use"], inventory)
    assert not any("elsewhere" in each["file"] for each in result.output["top"])


def readable(place: Place) -> None:
    """Make the folder and its parents readable for all users, and writable only for the owner."""
    for folder in (place.folder, *place.folder.parents, place.quarantine):
        if folder.exists() and folder.stat().st_mode & 0o5 != 0o5:
            folder.chmod(folder.stat().st_mode | 0o5)
    for path in place.folder.iterdir():
        path.chmod(0o644)


async def test_without_the_right_nothing_is_moved(place: Place) -> None:
    """The action is refused if the backup folder is read-only or the quarantine cannot be opened."""
    call = await plan(PRUNE, place.service())
    before = place.names()
    readable(place)
    with nobody(place.folder), pytest.raises(Refused, match=r"cannot write|no permission to read|cannot move"):
        await do(PRUNE, place.service(), call=call)
    assert place.names() == before
    assert (await observe(PRUNE, place.service(), call)).happened is EffectStatus.NO

    result = await do(PRUNE, place.service(), call=call)
    undo_prune, batch = ACTIONS["files.undo_prune"], str(result.output["batch"])
    back = await plan(undo_prune, place.service(), batch=batch)
    with nobody(hidden=place.quarantine), pytest.raises(Refused, match="no permission to read"):
        await do(undo_prune, place.service(), call=back, batch=batch)
    assert (await observe(undo_prune, place.service(), back, batch=batch)).happened is EffectStatus.NO


@pytest.mark.parametrize("seconds", [0.0, 0.01, 0.05, 0.2])
async def test_a_prune_that_times_out_stops_after_a_file_and_can_be_finished(place: Place, seconds: float) -> None:
    """On a slow disk, each file is in exactly one place at every timeout.

    An observation counts the remaining files, a new plan moves them, and moved files can be restored.
    """
    for number in range(200):
        place.backup(f"old-{number:03}.rdb", 10 + number, size=1000)
    before = place.names()
    call, since = await plan(PRUNE, place.service()), datetime.now(UTC)
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):  # the engine limits every call in the same way
            await do(PRUNE, place.service(), call=call)
    held: list[str] = []
    while True:  # the thread stops after the current file, which can take a while on a busy machine
        batches = await bindings.volume(place.service()).batches()
        moved = [file["name"] for note in batches.values() for file in note["files"]]
        if sorted([*place.names(), *moved]) == before and moved == held:
            break
        held = moved
        await asyncio.sleep(0.5)
    seen = await observe(PRUNE, place.service(), call, since=since)
    left = len(call.arguments["files"]) - len(moved)
    assert (seen.happened, seen.facts) == (EffectStatus.NO if left else EffectStatus.YES, {"left": left})
    if left:
        await do(PRUNE, place.service())
    assert place.names() == ["dump-0.rdb", "dump-1.rdb"]

    for batch in sorted(await bindings.volume(place.service()).batches()):
        undo_prune = ACTIONS["files.undo_prune"]
        back = await plan(undo_prune, place.service(), batch=batch)
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await do(undo_prune, place.service(), call=back, batch=batch)
        while (await observe(undo_prune, place.service(), back, batch=batch)).happened is not EffectStatus.YES:
            with suppress(TargetError):  # the thread may still run after the timeout of its call
                await do(undo_prune, place.service(), call=back, batch=batch)
    assert place.names() == before


async def test_a_quarantine_on_the_same_disk_frees_no_space(place: Place, small: Path) -> None:
    """The prune renames the file without a copy and fails, because this frees nothing; the undo renames it back."""
    full = Place(small / "backups", small / "quarantine", place.snapshot)
    full.folder.mkdir()
    for age in range(3):
        full.backup(f"dump-{age}.rdb", age, size=1_200_000).chmod(0o640)

    call = await plan(PRUNE, full.service(verify="none"))
    assert "this frees nothing now" in call.text
    result = await do(PRUNE, full.service(verify="none"), call=call)
    assert (result.outcome, result.output["freed"]) == (Outcome.FAILED, 0)
    assert "no space was freed" in result.summary
    assert full.names() == ["dump-0.rdb", "dump-1.rdb"]
    await undo(PRUNE, ACTIONS, full.service(verify="none"), call, result)
    assert full.names() == ["dump-0.rdb", "dump-1.rdb", "dump-2.rdb"]


async def test_a_quarantine_disk_without_space_is_not_filled(place: Place, small: Path) -> None:
    """If the quarantine is on another disk that is too small, the action is refused before the first byte is
    written."""
    place.backup("dump-9.rdb", 9, size=5_000_000)
    service = Place(place.folder, small / "quarantine", place.snapshot).service()
    with pytest.raises(Refused, match=r"cannot copy dump-9\.rdb"):
        await do(PRUNE, service)
    assert "dump-9.rdb" in place.names()
    assert [path.name for path in (small / "quarantine").iterdir()] == []


async def test_files_from_another_disk_are_restored_unchanged(place: Place, small: Path) -> None:
    """Content, time and permissions of a restored file are unchanged, so Redis can read its backup."""
    old = place.folder / "dump-4.rdb"
    old.chmod(0o640)
    before = (old.read_bytes(), old.stat().st_mtime_ns, old.stat().st_mode, old.stat().st_uid, old.stat().st_gid)
    service = Place(place.folder, small / "quarantine", place.snapshot).service()
    call = await plan(PRUNE, service)
    result = await do(PRUNE, service, call=call)
    assert not old.exists()

    await undo(PRUNE, ACTIONS, service, call, result)
    after = (old.read_bytes(), old.stat().st_mtime_ns, old.stat().st_mode, old.stat().st_uid, old.stat().st_gid)
    assert after == before


KILLED = """
import os, sys
from datetime import UTC, datetime
from pathlib import Path
from remediator.clients.host import disk, quarantine

cut = getattr(quarantine, sys.argv[3])
def killed(*given):
    cut(*given)
    os._exit(9)
setattr(quarantine, sys.argv[3], killed)
with disk.opened(Path(sys.argv[1])) as handle:
    files = [disk.pinned(handle, file) for file in disk.listed_in(handle, "*.rdb")]
quarantine.Quarantine(Path(sys.argv[2])).take(Path(sys.argv[1]), files, "cut", "2026-01-01T00:00:00Z", lambda: True)
"""


@pytest.mark.parametrize("after", ["_move", "_copy"])
async def test_killed_between_two_writes_no_file_is_forgotten(place: Place, small: Path, after: str) -> None:
    """After a SIGKILL between the copy and the removal of a file, its batch still lists the file, and the undo restores
    it."""
    before = place.names()
    quarantine = small / "quarantine"
    argv = [sys.executable, "-c", KILLED, str(place.folder), str(quarantine), after]
    assert subprocess.run(argv, check=False, cwd=Path(__file__).parents[3]).returncode == 9
    assert [path.name for path in quarantine.iterdir() if path.suffix == ".rdb"]

    service = Place(place.folder, quarantine, place.snapshot).service()
    await do(ACTIONS["files.undo_prune"], service, batch="cut")
    assert place.names() == before
    assert list(quarantine.iterdir()) == []


def test_files_removed_during_the_listing_are_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that disappears during the listing is skipped without an error."""
    for name in ("temp-1.rdb", "dump.rdb"):
        (tmp_path / name).write_bytes(b"x" * 100)
    look = os.stat

    def vanishing(path: Any, **given: Any) -> os.stat_result:
        if path == "temp-1.rdb":
            (tmp_path / "temp-1.rdb").unlink(missing_ok=True)
        return look(path, **given)

    monkeypatch.setattr(os, "stat", vanishing)
    assert [file.name for file in disk.listed(tmp_path, "*.rdb")] == ["dump.rdb"]
    (tmp_path / "temp-1.rdb").write_bytes(b"x")
    assert list(disk.space(tmp_path)) == ["dump.rdb"]
