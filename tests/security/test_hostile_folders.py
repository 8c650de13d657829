"""The owner of a hostile folder cannot make the service read, write or delete other files.

The attacks run as another user. They need root, as the tests in CI have.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import remediator
from remediator.clients.host import disk
from remediator.clients.host.nginx import MARK, IncludedFile, NginxFiles
from remediator.clients.host.quarantine import Quarantine, digest_of_note
from remediator.clients.host.releases import RECORD, ReleaseFolders
from remediator.core.clock import rfc3339
from remediator.errors import BadAnswer, Refused, TargetError
from remediator.extensions.actions import redis_restore_backup as restore
from remediator.extensions.actions.base import Action
from remediator.extensions.actions.nginx_maintenance import NginxMaintenance
from remediator.extensions.actions.nginx_rate_limit import NginxRateLimit
from remediator.extensions.clientset import ClientSet
from remediator.extensions.witnesses.file import FileWitness
from tests.support.action_runner import do, plan, service
from tests.support.reduced_rights import NOBODY, nobody
from tests.support.servers.nginx import Nginx

pytestmark = [
    pytest.mark.promise(8),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be another user"),
]
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def enterable(tmp_path: Path) -> None:
    """Let other users enter all folders above."""
    for folder in (tmp_path, *tmp_path.parents[:3]):
        folder.chmod(0o755)


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """Return a folder that belongs to another user."""
    enterable(tmp_path)
    folder = tmp_path / "hostile"
    folder.mkdir()
    os.chown(folder, NOBODY, NOBODY)
    return folder


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """Return a file that only the service may change."""
    path = tmp_path / "victim"
    path.write_text("precious")
    path.chmod(0o600)
    return path


@pytest.mark.parametrize("name", ["../victim", "/etc/passwd", "..", "a/b", ""])
def test_a_batch_note_of_another_user_deletes_nothing(hostile: Path, victim: Path, name: str) -> None:
    """A quarantine that the owner of the backups made, with a note about other files, deletes nothing."""
    note = {"at": "2020-01-01T00:00:00Z", "from": str(hostile), "files": [
        {"name": "x", "stored": str(victim) if name == "/etc/passwd" else name, "size": 1, "sha256": ""}
    ]}  # fmt: skip
    with nobody():
        (hostile / ".quarantine").mkdir()
        (hostile / ".quarantine" / "1.json").write_text(json.dumps(note))
    quarantine = Quarantine(hostile / ".quarantine")
    for attempt in (quarantine.batches, lambda: quarantine.delete("1", "", lambda: True)):
        with pytest.raises(Refused, match="belongs to user"):
            attempt()
    assert victim.read_text() == "precious"


def test_a_note_in_our_own_folder_names_only_files_of_its_batch(tmp_path: Path, victim: Path) -> None:
    """A note that names a file outside the quarantine is refused, even in our own folder."""
    folder = tmp_path / "quarantine"
    folder.mkdir(mode=0o700)
    file = {"name": "victim", "stored": "../victim", "size": 8, "sha256": hashlib.sha256(b"precious").hexdigest()}
    (folder / "1.json").write_text(json.dumps({"at": "2020-01-01T00:00:00Z", "from": "/", "files": [file]}))
    (folder / "1.json").chmod(0o600)
    with pytest.raises((BadAnswer, TargetError)):
        Quarantine(folder).delete("1", digest_of_note(Quarantine(folder).held("1")), lambda: True)
    assert victim.exists()


def test_a_quarantine_that_is_a_link_is_refused(hostile: Path, tmp_path: Path) -> None:
    """A quarantine that is a link to another folder is refused."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    with nobody():
        (hostile / ".quarantine").symlink_to(elsewhere)
        (hostile / "a.rdb").write_text("backup")
    with pytest.raises((Refused, TargetError)):
        Quarantine(hostile / ".quarantine").take(hostile, pins(hostile), "1", rfc3339(NOW), lambda: True)
    assert not list(elsewhere.iterdir()) and (hostile / "a.rdb").exists()


def pins(folder: Path) -> tuple[disk.Pin, ...]:
    """Return the pins of a plan for the backups in a folder."""
    with disk.opened(folder) as handle:
        return tuple(disk.pinned(handle, file) for file in disk.listed_in(handle, "*.rdb"))


def planned(backups: Path, name: str = "dump.rdb") -> dict[str, Any]:
    """Return the arguments of a planned restore."""
    [file] = [item for item in disk.listed(backups, "*.rdb") if item.name == name]
    with disk.opened(backups) as handle:
        digest = disk.digest_of(handle, name)
    facts = {"size": file.size, "inode": file.inode, "changed": file.changed, "sha256": digest}
    return {"backup": name, "aside": "before-restore-1", **facts}


@pytest.fixture
def backups(tmp_path: Path) -> Path:
    """Return a folder with one backup of another user."""
    enterable(tmp_path)
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
    """A backup that changed after planning is not restored, and the files of Redis stay."""
    with nobody():
        (hostile / "dump.rdb").write_text("own")
    plan = planned(backups)
    with nobody():
        change(backups)
    with pytest.raises((TargetError, Refused)):
        restore._put(hostile, backups / "dump.rdb", plan, append_only)
    assert sorted(item.name for item in hostile.iterdir()) == ["dump.rdb"]
    assert (hostile / "dump.rdb").read_text() == "own"


@pytest.mark.parametrize("change", [same_size_and_time, another_file, a_link, a_pipe])
def test_only_the_approved_backup_goes_into_quarantine(
    backups: Path, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    """A backup that changed after planning is not moved, even if its size and time are the same."""
    approved = pins(backups)
    with nobody():
        change(backups)
    before = sorted(item.name for item in backups.iterdir())
    with pytest.raises(TargetError):
        Quarantine(tmp_path / "quarantine").take(backups, approved, "1", rfc3339(NOW), lambda: True)
    assert sorted(item.name for item in backups.iterdir()) == before
    assert list((tmp_path / "quarantine").iterdir()) == []


@pytest.fixture
def held(backups: Path, tmp_path: Path) -> Quarantine:
    """Return a quarantine with the backup of another user, who still has it open."""
    quarantine = Quarantine(tmp_path / "quarantine")
    quarantine.take(backups, pins(backups), "1", rfc3339(NOW), lambda: True)
    return quarantine


def test_a_file_that_was_changed_in_quarantine_is_neither_deleted_nor_restored(held: Quarantine, backups: Path) -> None:
    """A file that its owner changed by a descriptor from before the move is neither deleted nor restored."""
    approved = digest_of_note(held.held("1"))
    path = held.folder / "1-dump.rdb"
    path.write_text(path.read_text().upper())
    with pytest.raises(TargetError, match="changed after planning"):
        held.delete("1", approved, lambda: True)
    with pytest.raises(TargetError, match="changed after planning"):
        held.restore("1", approved, backups, lambda: True)
    assert path.exists() and list(backups.iterdir()) == []


def test_only_the_approved_batch_is_deleted_or_restored(held: Quarantine, backups: Path) -> None:
    """The plan also pins the list of a batch."""
    for attempt in (
        lambda: held.delete("1", "0" * 64, lambda: True),
        lambda: held.restore("1", "0" * 64, backups, bool),
    ):
        with pytest.raises(TargetError, match=r"batch 1 .* was changed after planning"):
            attempt()
    assert (held.folder / "1-dump.rdb").exists()


@pytest.mark.parametrize("link", ["victim", "missing"])
def test_a_link_at_the_place_of_a_restored_backup_is_not_followed(
    held: Quarantine, backups: Path, victim: Path, link: str
) -> None:
    """A link that the owner of the backups put at the place of a backup is not followed."""
    with nobody():
        (backups / "dump.rdb").symlink_to(victim.with_name(link))
    with pytest.raises(TargetError):
        held.restore("1", digest_of_note(held.held("1")), backups, lambda: True)
    assert victim.read_text() == "precious" and not victim.with_name("missing").exists()
    assert (held.folder / "1-dump.rdb").exists()


def test_a_file_is_read_again_after_each_change(backups: Path) -> None:
    """A stored checksum is valid only until the file changes, even if size and time stay the same."""
    path = backups / "dump.rdb"
    [first] = pins(backups)
    settled = disk._SETTLED
    try:
        disk._SETTLED = -1  # as if the file were old
        assert pins(backups) == (first,)
        same_size_and_time(backups)
        [second] = pins(backups)
    finally:
        disk._SETTLED = settled
    assert first.changed == path.stat().st_mtime_ns == second.changed and first.sha256 != second.sha256


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
    """A link or folder that already has the name of the new folder ends the restore."""
    with nobody():
        (hostile / "before-restore-1").symlink_to("/tmp")
    with pytest.raises(TargetError, match="already exists"):
        restore._put(hostile, backups / "dump.rdb", planned(backups), True)


def test_the_record_of_rolled_back_releases_must_be_our_own(hostile: Path) -> None:
    """Another user cannot change the record of releases, nor make the service read another file."""
    with nobody():
        for name in ("1", "2"):
            (hostile / name).mkdir()
        (hostile / "current").symlink_to("2")
        (hostile / RECORD).write_text('{"1": "2020-01-01T00:00:00Z"}')
    with pytest.raises(Refused, match="belongs to user"):
        ReleaseFolders(hostile, hostile / "current").all()


def test_the_included_file_replaces_a_link_and_never_writes_through_it(hostile: Path, victim: Path) -> None:
    """The file of nginx is written as a new file and renamed, so a link at its place is replaced."""
    with nobody():
        (hostile / "limit.conf").symlink_to(victim)
    included = IncludedFile(NginxFiles(hostile / "limit.conf", hostile / "nginx.pid", "nginx", None))
    included._write(MARK)
    assert victim.read_text() == "precious" and not (hostile / "limit.conf").is_symlink()


@pytest.fixture
def above(tmp_path: Path, hostile: Path) -> Path:
    """Return a path whose parent another user replaced by a link to a folder of the service."""
    private = tmp_path / "private"
    (private / "inner").mkdir(parents=True, mode=0o700)
    (private / "inner" / "current").symlink_to("2")
    for name in ("1", "2"):
        (private / "inner" / name).mkdir()
    with nobody():
        (hostile / "way").symlink_to(private)
    return hostile / "way" / "inner"


def _switch(folder: Path) -> None:
    ReleaseFolders(folder, folder / "current").switch("1", expected="2", now=NOW)


def _limit(folder: Path) -> None:
    IncludedFile(NginxFiles(folder / "limit.conf", folder / "nginx.pid", "nginx", None))._write(MARK)


def _append(folder: Path) -> None:
    FileWitness(folder / "checkpoints")._append("note")


def _take(folder: Path) -> None:
    Quarantine(folder / "quarantine").take(folder.parents[1], (), "1", rfc3339(NOW), lambda: True)


def _restore_prune(folder: Path) -> None:
    Quarantine(folder).restore("1", "", folder, lambda: True)


def _restore_redis(folder: Path) -> None:
    plan = {"backup": "dump.rdb", "aside": "aside", "size": 1, "inode": 1, "changed": 1, "sha256": ""}
    restore._put(folder, folder / "dump.rdb", plan, True)


WRITERS: dict[str, Callable[[Path], None]] = {
    "actions.files_prune": _take,
    "actions.files_undo_prune": _restore_prune,
    "actions._nginx_rule": _limit,
    "actions.nginx_maintenance": _limit,
    "actions.nginx_rate_limit": _limit,
    "actions.redis_restore_backup": _restore_redis,
    "platforms.supervisor": _switch,
    "witnesses.file": _append,
}
"""Every extension that changes files in folders of others, with a function that does so. `service.rollback` uses
its platform.
"""


@pytest.mark.parametrize("name", WRITERS)
def test_a_folder_above_that_is_a_link_of_another_user_is_not_entered(above: Path, tmp_path: Path, name: str) -> None:
    """The owner of a parent folder cannot choose where the service writes."""
    inner = tmp_path / "private" / "inner"
    before = sorted(inner.iterdir())
    with pytest.raises((TargetError, Refused), match=f"way is a symbolic link of user {NOBODY}"):
        WRITERS[name](above)
    assert sorted(inner.iterdir()) == before and (inner / "current").readlink() == Path("2")


def test_a_link_of_root_above_is_followed(above: Path, tmp_path: Path) -> None:
    """A link of root is followed, because administrators move folders to other disks."""
    (tmp_path / "link").symlink_to("private")
    _switch(tmp_path / "link" / "inner")
    assert (tmp_path / "private/inner/current").readlink() == Path("1")


def test_the_owner_of_the_releases_cannot_choose_the_file_that_is_written(hostile: Path, victim: Path) -> None:
    """A link in place of the record is refused. The link to the release is replaced and never followed."""
    with nobody():
        for name in ("1", "2"):
            (hostile / name).mkdir()
        (hostile / "current").symlink_to("2")
        (hostile / RECORD).symlink_to(victim)
    with pytest.raises((TargetError, Refused)):
        _switch(hostile)
    assert victim.read_text() == "precious" and (hostile / "current").readlink() == Path("2")


@pytest.mark.parametrize("make", [lambda path, victim: path.symlink_to(victim), lambda path, victim: os.mkfifo(path)])
async def test_a_checkpoint_is_not_written_through_a_link_or_into_a_pipe(
    hostile: Path, victim: Path, make: Callable[[Path, Path], None]
) -> None:
    """The owner of the checkpoint folder cannot make the service append to another file or wait."""
    with nobody():
        make(hostile / "checkpoints", victim)
    with pytest.raises((TargetError, OSError)):
        FileWitness(hostile / "checkpoints")._append("note")
    assert victim.read_text() == "precious"


@pytest.mark.parametrize("action", [NginxMaintenance, NginxRateLimit])
async def test_nginx_actions_do_not_read_or_write_through_a_link(
    nginx: Nginx, hostile: Path, victim: Path, action: type[Action]
) -> None:
    """No action follows a link that appears before planning or between planning and execution."""
    victim.write_text(MARK + "precious")
    files = {"include": hostile / "limit.conf", "pid_file": nginx.folder / "nginx.pid", "config": nginx.config}
    target = service("app", nginx={**{key: str(value) for key, value in files.items()}, "zone": "tight"})
    given = {} if action is NginxMaintenance else {"level": "strict"}
    call = await plan(action(ClientSet()), target, **given)
    with nobody():
        (hostile / "limit.conf").symlink_to(victim)
    with pytest.raises(TargetError, match=r"cannot open limit\.conf"):
        await plan(action(ClientSet()), target, **given)
    with pytest.raises(TargetError, match=r"cannot open limit\.conf"):
        await do(action(ClientSet()), target, call=call, **given)
    assert victim.read_text() == MARK + "precious" and (hostile / "limit.conf").is_symlink()


CHANGES = {
    "rename",
    "renames",
    "unlink",
    "rmdir",
    "mkdir",
    "makedirs",
    "symlink",
    "symlink_to",
    "hardlink_to",
    "rmtree",
}
CHANGES |= {"write_text", "write_bytes", "touch", "fchown", "chown", "fchmod", "chmod", "truncate", "copyfile", "utime"}
CHANGES |= {"O_CREAT", "O_WRONLY", "O_RDWR", "mkfifo", "copy2", "copytree", "NamedTemporaryFile", "mkstemp"}
HARMLESS = {
    "remediator.clients.kubernetes.kubeconfig": "writes in a temporary folder of its own",
    "remediator.clients.docker.replace": "renames containers",
    "remediator.clients.ssh.wrapper": "writes markers on another host, in a folder of its own",
    "remediator.extensions.actions.files_disk_use": "reads sizes only",
}
ROOT = Path(remediator.__file__).parent


def _changes_files(tree: ast.Module) -> bool:
    """Return whether a module names a function or flag that changes files."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in CHANGES:
            return True
        if isinstance(node, ast.Call) and isinstance(node.func, (ast.Attribute, ast.Name)):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id
            modes = [arg.value for arg in node.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]
            if name in ("open", "fdopen") and any(len(mode) <= 3 and set("wax+") & set(mode) for mode in modes):
                return True
            if name == "replace" and len(node.args) == 1 and not node.keywords:  # Path.replace
                return True
    return False


def _trees(folder: str) -> dict[str, ast.Module]:
    found = sorted((ROOT / folder).rglob("*.py"))
    return {
        ".".join(("remediator", *path.relative_to(ROOT).with_suffix("").parts)): ast.parse(path.read_text())
        for path in found
    }


def _names(tree: ast.AST) -> set[str]:
    """Return the full names of the imported modules and objects, and the functions of `bindings` that are used."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{each.name}" for each in node.names} | {str(node.module)}
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "bindings":
            found.add(f"bindings.{node.attr}")
    return found


def test_every_extension_that_changes_files_is_attacked_here() -> None:
    """Every extension that changes files, itself or by a client, must be in the lists of this test."""
    clients, extensions = _trees("clients"), _trees("extensions")
    writers = {name for name, tree in clients.items() if _changes_files(tree)} - set(HARMLESS)
    writers |= {name for name, tree in clients.items() if _names(tree) & writers}
    assert writers == {
        *(f"remediator.clients.host.{name}" for name in ("disk_changes", "folders", "nginx", "quarantine", "releases")),
        # the agent and remediator-remote run the same code as this host
        *(f"remediator.clients.volume.{name}" for name in ("client", "files")),
        *(f"remediator.clients.ssh.{name}" for name in ("bundle", "configuration", "wrapper")),
    }

    classes = {node.name for name in writers for node in clients[name].body if isinstance(node, ast.ClassDef)}
    bound = {
        f"bindings.{node.name}"
        for node in extensions["remediator.extensions.bindings"].body
        if isinstance(node, ast.FunctionDef)
        and node.returns
        and classes & set(re.findall(r"\w+", ast.unparse(node.returns)))
    }
    assert bound == {"bindings.volume", "bindings.data_files", "bindings.nginx"}
    kinds = ("actions", "checks", "guards", "notifiers", "platforms", "witnesses")
    found = {
        name.removeprefix("remediator.extensions.")
        for name, tree in extensions.items()
        if name not in HARMLESS
        and name.split(".")[2] in kinds
        and (_changes_files(tree) or _names(tree) & (writers | bound))
    }
    assert found == set(WRITERS)
