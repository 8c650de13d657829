"""In the state folder, the service uses only files that it can have written itself, and opens none that blocks."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from remediator.audit import archive
from remediator.cli import _direct_store
from remediator.config import Config, read_secret
from remediator.core import tokens
from remediator.core.local_files import own_file
from remediator.errors import ConfigurationError, RemediatorError, StoreUnavailable
from remediator.extensions.guards._stop_file import read_stop_file
from remediator.extensions.witnesses.file import FileWitness
from remediator.playbooks.loader import load_config
from remediator.runtime.access import read_credentials
from remediator.runtime.settings import retention_settings
from remediator.runtime.signing_keys import load_signing_keys
from remediator.runtime.store_access import database_file, read_only_connection
from remediator.storage.backup import create_backup
from remediator.storage.sqlite import exclusive_lock
from tests.support import commands
from tests.support.reduced_rights import NOBODY, nobody
from tests.support.servers.remediator import Remediator

pytestmark = pytest.mark.promise(8)
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be another user")


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """Return settings with an existing state folder."""
    (tmp_path / "state").mkdir(mode=0o700)
    settings = {"apiVersion": "remediator/v1", "kind": "Config", "playbooks": [], "inventory": "inventory.yaml"}
    return Config.model_validate({**settings, "state": str(tmp_path / "state")})


def read_only(config: Config) -> None:
    """Open the database as read-only commands do."""
    with read_only_connection(config):
        pass


DATABASE = ("remediator.db", "remediator.db-wal", "remediator.db-shm", "remediator.db-journal", "remediator.db.lock")
USERS: dict[str, tuple[Callable[[Config], object], ...]] = {
    **dict.fromkeys(DATABASE, (database_file, read_only, lambda config: _direct_store.write(config, lambda tx: None))),
    "links.key": (load_signing_keys,),
    "audit.key": (load_signing_keys,),
    "webhook.token": (read_credentials,),
    "archive": (retention_settings,),
}
"""The files of the service, each with functions that open it."""


def a_link(path: Path, victim: Path) -> None:
    path.symlink_to(victim)


def an_empty_link(path: Path, victim: Path) -> None:
    path.symlink_to(victim.with_name("missing"))


def a_pipe(path: Path, victim: Path) -> None:
    os.mkfifo(path)


def a_file_of_another_user(path: Path, victim: Path) -> None:
    if path.name == "archive":
        path.mkdir(mode=0o777)
    else:
        path.write_text("theirs")
    os.chown(path, NOBODY, NOBODY)


SENTENCES = {
    a_link: "is a symbolic link",
    an_empty_link: "is a symbolic link",
    a_pipe: "is not a",
    a_file_of_another_user: f"belongs to user {NOBODY}",
}


@needs_root
@pytest.mark.parametrize("put", SENTENCES, ids=lambda put: put.__name__)
@pytest.mark.parametrize("name", USERS)
def test_a_state_file_replaced_by_another_user_is_refused(
    config: Config, tmp_path: Path, name: str, put: Callable[[Path, Path], None]
) -> None:
    """A link, a pipe or a file of another user is refused: nothing is read, written or created."""
    victim = tmp_path / "victim"
    victim.write_text("precious")
    put(config.state / name, victim)
    for use in USERS[name]:
        with pytest.raises(ConfigurationError, match=SENTENCES[put]) as refused:
            use(config)
        assert str(config.state / name) in str(refused.value) and "\n" not in str(refused.value)
    assert victim.read_text() == "precious" and not (tmp_path / "missing").exists()
    assert os.path.lexists(config.state / name)


@needs_root
def test_a_folder_of_another_user_is_refused_except_by_root(tmp_path: Path) -> None:
    """The owner of a folder can replace its files. Root may act for the owner, for example with sudo."""
    for folder in (tmp_path, *tmp_path.parents[:3]):
        folder.chmod(0o755)
    os.chown(tmp_path, NOBODY - 1, -1)
    assert own_file(tmp_path, "links.key") == tmp_path / "links.key"
    with nobody(), pytest.raises(ConfigurationError, match=f"belongs to user {NOBODY - 1}, who can replace its files"):
        own_file(tmp_path, "links.key")


@needs_root
def test_a_link_of_another_user_above_the_folder_is_not_followed(config: Config, tmp_path: Path) -> None:
    """A link of another user could choose the place of the state, so it is refused. A link of root is followed."""
    (tmp_path / "way").symlink_to(config.state.parent)
    moved = config.model_copy(update={"state": tmp_path / "way" / "state"})
    assert database_file(moved).parent == moved.state
    os.chown(tmp_path / "way", NOBODY, NOBODY, follow_symlinks=False)
    with pytest.raises(ConfigurationError, match=f"way is a symbolic link of user {NOBODY}"):
        database_file(moved)


def test_the_lock_overwrites_no_file_behind_a_link(tmp_path: Path) -> None:
    """The lock file with the process ID is never a link. The store itself refuses links too, after all checks."""
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "remediator.db.lock").symlink_to(victim)
    with pytest.raises(StoreUnavailable, match="cannot be written"), exclusive_lock(tmp_path / "remediator.db"):
        pass
    assert victim.read_text() == "precious"


def test_a_secret_is_not_created_through_a_link(tmp_path: Path) -> None:
    """The creation itself refuses a link, because a link can appear after the check."""
    (tmp_path / "webhook.token").symlink_to(tmp_path / "victim")
    with pytest.raises(ConfigurationError):
        tokens.create_secret(tmp_path / "webhook.token", lambda: "secret")
    assert not (tmp_path / "victim").exists()


def test_a_linked_stop_file_does_not_disclose_its_target(tmp_path: Path) -> None:
    """All users can read the reason of a stop, so the target of a link is not shown. A STOP file that is a link
    still stops all actions."""
    (tmp_path / "links.key").write_text("the key")
    (tmp_path / "STOP").symlink_to(tmp_path / "links.key")
    found = read_stop_file(tmp_path)
    assert found is not None and "the key" not in found.reason and "cannot read the reason" in found.reason


def test_an_archive_file_that_is_a_link_is_not_read(tmp_path: Path) -> None:
    """An archive file that is a link is not read, because the error could show parts of another file."""
    (tmp_path / "audit-000000000001-000000000002.jsonl.gz").symlink_to("/etc/passwd")
    with pytest.raises(archive.ArchiveError, match="cannot read the archive file"):
        archive.list_segments(tmp_path)


@needs_root
@pytest.mark.parametrize("prepared", ["link", "file"])
def test_a_backup_is_not_written_into_what_others_prepared(tmp_path: Path, prepared: str) -> None:
    """The draft of a backup is a new file with a random name that only this user may read."""
    victim, database, folder = tmp_path / "victim", tmp_path / "remediator.db", tmp_path / "backups"
    victim.write_bytes(b"")
    folder.mkdir()
    os.chown(folder, NOBODY, NOBODY)
    with sqlite3.connect(database) as connection:
        connection.execute("CREATE TABLE secrets (value TEXT)")
    if prepared == "link":
        (folder / "copy.db.part").symlink_to(victim)
    else:
        (folder / "copy.db.part").write_bytes(b"")
        (folder / "copy.db.part").chmod(0o666)
    with pytest.raises(RemediatorError):  # not a database of this version, so the copy is removed
        create_backup(database, folder / "copy.db")
    assert victim.read_bytes() == b"" and (folder / "copy.db.part").stat().st_size == 0
    assert [item.name for item in folder.iterdir()] == ["copy.db.part"]


def at_once(work: Callable[[], object]) -> BaseException | None:
    """Run a function that must not block. Return its error."""
    raised: list[BaseException | None] = []

    def run() -> None:
        try:
            work()
            raised.append(None)
        except Exception as error:  # noqa: BLE001 - the test looks at it
            raised.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(30)
    assert raised, "it waits for the pipe"
    return raised[0]


READERS: dict[str, Callable[[Path], object]] = {
    "settings": lambda path: load_config(path, Config),
    "secret": read_secret,
    "keys": tokens.load_keyring,
    "stop file": lambda path: read_stop_file(path.parent),
    "checkpoints": lambda path: FileWitness(path)._read(),
}


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")], ids=["pipe", "device"])
def test_no_file_of_the_settings_blocks_the_service(tmp_path: Path, name: str, make: Callable[[Path], None]) -> None:
    """A named pipe, which blocks, and a device, which may be endless, are refused at once."""
    path = tmp_path / "STOP"
    make(path)
    error = at_once(lambda: READERS[name](path))
    if name != "stop file":  # this file stops the service, whatever it is
        assert isinstance(error, (RemediatorError, OSError)), error


@pytest.mark.parametrize("what", ["settings", "people", "certificate"])
def test_a_start_with_a_pipe_says_why_and_ends(tmp_path: Path, what: str) -> None:
    """With a pipe in any of the places, the process ends and names the reason."""
    service = Remediator(tmp_path)
    service.playbooks = []
    if what == "people":
        service.settings["access"] = {"people": "pipe"}
    elif what == "certificate":
        service.settings["tls"] = {"certificate_file": "pipe", "key_file": "pipe"}
    service.write()
    os.mkfifo(tmp_path / "pipe")
    if what == "settings":
        service.config.unlink()
        (tmp_path / "pipe").rename(service.config)
    done = commands.remediator("serve", "--config", str(service.config))
    assert done.returncode == 2 and "it is not a regular file" in done.stderr, done.stderr
    assert "Traceback" not in done.stderr


def test_a_start_with_a_link_in_the_state_folder_says_why_and_ends(tmp_path: Path) -> None:
    """The process ends with one sentence, and the target of the link is unchanged."""
    service = Remediator(tmp_path)
    service.playbooks = []
    (tmp_path / "state").mkdir(mode=0o700)
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "state" / "remediator.db.lock").symlink_to(tmp_path / "victim")
    service.write()
    done = commands.remediator("serve", "--config", str(service.config))
    assert done.returncode == 2 and "is a symbolic link" in done.stderr, done.stderr
    assert "Traceback" not in done.stderr and (tmp_path / "victim").read_text() == "precious"


def test_everything_in_the_state_folder_is_found_by_the_checked_functions() -> None:
    """Only the checked functions join a name to the path of the state folder."""
    found = subprocess.run(
        ["grep", "-rnE", r"config\.state */|self\.state */", "remediator", "--include=*.py"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    ).stdout.splitlines()
    allowed = {
        "remediator/config.py": "only names files, for the redactor",
        "remediator/runtime/settings.py": "checked when the service starts",
        "remediator/cli/serve.py": "checked by read_credentials before it is read",
    }
    assert {line.split(":")[0] for line in found} == set(allowed), found
