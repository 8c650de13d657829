"""Folders that belong to other users: their owner cannot make the service read, write or delete other files.

The attacks run as another user. They need root, as the tests in CI have.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from remediator.clients.host import disk
from remediator.clients.host.nginx import MARK, IncludedFile, NginxFiles
from remediator.clients.host.quarantine import Quarantine
from remediator.clients.host.releases import RECORD, ReleaseFolders
from remediator.errors import BadAnswer, Refused, TargetError
from remediator.extensions.actions import redis_restore_backup as restore
from tests.support.reduced_rights import NOBODY, nobody

pytestmark = [
    pytest.mark.promise(8),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be another user"),
]
NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def hostile(tmp_path: Path) -> Iterator[Path]:
    """A folder that belongs to another user."""
    for folder in (tmp_path, *tmp_path.parents[:3]):
        folder.chmod(0o755)
    folder = tmp_path / "hostile"
    folder.mkdir()
    os.chown(folder, NOBODY, NOBODY)
    return folder


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """A file that only the service may change."""
    path = tmp_path / "victim"
    path.write_text("precious")
    path.chmod(0o600)
    return path


@pytest.mark.parametrize("name", ["../victim", "/etc/passwd", "..", "a/b", ""])
def test_a_batch_note_of_another_user_deletes_nothing(hostile: Path, victim: Path, name: str) -> None:
    """The owner of the backups makes a quarantine with a note that names other files."""
    note = {"at": "2020-01-01T00:00:00Z", "from": str(hostile), "files": [
        {"name": "x", "stored": str(victim) if name == "/etc/passwd" else name, "size": 1, "changed": 1, "sha256": ""}
    ]}  # fmt: skip
    with nobody():
        (hostile / ".quarantine").mkdir()
        (hostile / ".quarantine" / "1.json").write_text(json.dumps(note))
    quarantine = Quarantine(hostile / ".quarantine")
    for attempt in (quarantine.batches, lambda: quarantine.delete("1")):
        with pytest.raises(Refused, match="belongs to user"):
            attempt()
    assert victim.read_text() == "precious"


def test_a_note_in_our_own_folder_names_only_files_of_its_batch(tmp_path: Path, victim: Path) -> None:
    """Even a note that we could have written must not name a file outside the quarantine."""
    folder = tmp_path / "quarantine"
    folder.mkdir(mode=0o700)
    file = {"name": "victim", "stored": "../victim", "size": 1, "changed": 1, "sha256": ""}
    (folder / "1.json").write_text(json.dumps({"at": "2020-01-01T00:00:00Z", "from": "/", "files": [file]}))
    (folder / "1.json").chmod(0o600)
    with pytest.raises((BadAnswer, TargetError)):
        Quarantine(folder).delete("1")
    assert victim.exists()


def test_a_quarantine_that_is_a_link_is_refused(hostile: Path, tmp_path: Path) -> None:
    """The owner of the backups points the quarantine at another folder."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    with nobody():
        (hostile / ".quarantine").symlink_to(elsewhere)
        (hostile / "a.rdb").write_text("backup")
    files = disk.listed(hostile, "*.rdb")
    with pytest.raises((Refused, TargetError)):
        Quarantine(hostile / ".quarantine").take(hostile, files, "1", NOW, lambda: True)
    assert not list(elsewhere.iterdir()) and (hostile / "a.rdb").exists()


def planned(backups: Path, name: str = "dump.rdb") -> dict[str, Any]:
    """Return the arguments of a planned restore."""
    [file] = [item for item in disk.listed(backups, "*.rdb") if item.name == name]
    with disk.opened(backups) as handle:
        digest = disk.digest_of(handle, name)
    facts = {"size": file.size, "inode": file.inode, "changed": file.changed, "sha256": digest}
    return {"backup": name, "aside": "before-restore-1", **facts}


@pytest.fixture
def backups(tmp_path: Path) -> Path:
    """A folder with one backup of another user."""
    folder = tmp_path / "backups"
    folder.mkdir()
    os.chown(folder, NOBODY, NOBODY)
    with nobody():
        (folder / "dump.rdb").write_text("the backup that was approved")
    return folder


def same_size_and_time(backups: Path) -> None:
    path = backups / "dump.rdb"
    before = path.stat()
    path.write_text("something that was not!!!!!!")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def another_file(backups: Path) -> None:
    (backups / "new").write_text("the backup that was approved")
    (backups / "new").replace(backups / "dump.rdb")


def a_link(backups: Path) -> None:
    (backups / "dump.rdb").rename(backups / "kept.rdb")
    (backups / "dump.rdb").symlink_to("kept.rdb")


def a_pipe(backups: Path) -> None:
    (backups / "dump.rdb").unlink()
    os.mkfifo(backups / "dump.rdb")


@pytest.mark.parametrize("change", [same_size_and_time, another_file, a_link, a_pipe])
@pytest.mark.parametrize("append_only", [True, False])
def test_only_the_approved_backup_is_restored(
    hostile: Path, backups: Path, change: Callable[[Path], None], append_only: bool
) -> None:
    """A backup that was changed after planning is not restored, and Redis' own files stay."""
    with nobody():
        (hostile / "dump.rdb").write_text("own")
    plan = planned(backups)
    with nobody():
        change(backups)
    with pytest.raises((TargetError, Refused)):
        restore._put(hostile, backups / "dump.rdb", plan, append_only)
    assert sorted(item.name for item in hostile.iterdir()) == ["dump.rdb"]
    assert (hostile / "dump.rdb").read_text() == "own"


def test_a_link_in_the_redis_folder_is_not_followed(hostile: Path, backups: Path, victim: Path) -> None:
    """The owner of the Redis folder cannot make the service overwrite or give away another file."""
    with nobody():
        (hostile / "dump.rdb").symlink_to(victim)
        (hostile / "appendonlydir").symlink_to(victim.parent)
    restore._put(hostile, backups / "dump.rdb", planned(backups), False)
    assert victim.read_text() == "precious" and victim.stat().st_uid == 0
    assert (hostile / "dump.rdb").read_text() == "the backup that was approved"
    assert not (hostile / "dump.rdb").is_symlink() and (hostile / "dump.rdb").stat().st_uid == NOBODY


def test_an_aside_folder_of_another_user_is_not_used(hostile: Path, backups: Path) -> None:
    """A link or a folder that waits at the name of the new folder ends the restore."""
    with nobody():
        (hostile / "before-restore-1").symlink_to("/tmp")
    with pytest.raises(TargetError, match="already exists"):
        restore._put(hostile, backups / "dump.rdb", planned(backups), True)


def test_the_record_of_rolled_back_releases_must_be_our_own(hostile: Path) -> None:
    """Another user cannot say which releases were rolled back, nor make the service read another file."""
    with nobody():
        for name in ("1", "2"):
            (hostile / name).mkdir()
        (hostile / "current").symlink_to("2")
        (hostile / RECORD).write_text('{"1": "2020-01-01T00:00:00Z"}')
    with pytest.raises(Refused, match="belongs to user"):
        ReleaseFolders(hostile, hostile / "current").all()


def test_the_included_file_replaces_a_link_and_never_writes_through_it(hostile: Path, victim: Path) -> None:
    """nginx' folder is written by a new file that is renamed."""
    with nobody():
        (hostile / "limit.conf").symlink_to(victim)
    included = IncludedFile(NginxFiles(hostile / "limit.conf", hostile / "nginx.pid", "nginx", None))
    included._write(MARK)
    assert victim.read_text() == "precious" and not (hostile / "limit.conf").is_symlink()
