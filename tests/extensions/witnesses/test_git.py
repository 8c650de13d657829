"""Checkpoints in a git repository."""

from __future__ import annotations

import asyncio
import os
import subprocess
from pathlib import Path

import pytest

from remediator.extensions.witnesses.base import WitnessError
from remediator.extensions.witnesses.git import GitWitness
from tests.support.witness_suite import NOTES, NotarySuite

pytestmark = pytest.mark.promise(9)


def _git(repository: Path, *command: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(repository), *command], capture_output=True, text=True, timeout=30, check=True
    )
    return done.stdout


@pytest.fixture
def notary(tmp_path: Path) -> GitWitness:
    """Return a witness with an empty bare repository."""
    _git(tmp_path, "init", "--quiet", "--bare", "repository.git")
    return GitWitness(tmp_path / "repository.git")


class TestGitNotary(NotarySuite):
    """Run the tests of all witnesses on a repository."""


async def test_a_repository_is_made_where_none_is(tmp_path: Path) -> None:
    """The first publication creates the repository, and ``git fsck`` finds no problem in it."""
    await GitWitness(tmp_path / "new.git").publish(NOTES[1])
    await GitWitness(tmp_path / "new.git").publish(NOTES[4])

    assert await GitWitness(tmp_path / "new.git").fetch() == [NOTES[1], NOTES[4]]
    assert _git(tmp_path / "new.git", "fsck", "--strict", "--no-dangling") == ""
    assert _git(tmp_path / "new.git", "show", "checkpoints:checkpoint") == NOTES[4]
    assert _git(tmp_path / "new.git", "log", "--format=%s", "checkpoints").splitlines() == [
        "Checkpoint of 4 entries",
        "Checkpoint of 1 entries",
    ]


async def test_checkpoints_are_pushed(tmp_path: Path) -> None:
    """Each checkpoint is pushed at once; one that a crash kept from the remote is pushed with the next one."""
    _git(tmp_path, "init", "--quiet", "--bare", "remote.git")
    local, remote = tmp_path / "local.git", str(tmp_path / "remote.git")
    await GitWitness(local).publish(NOTES[2])
    await GitWitness(local, remote=remote).publish(NOTES[2])
    await GitWitness(local, remote=remote).publish(NOTES[6])

    assert await GitWitness(Path(remote)).fetch() == [NOTES[2], NOTES[6]]


async def test_a_remote_that_was_moved_is_not_forced(tmp_path: Path) -> None:
    """If the remote has another history, the push is refused with an error and the remote does not change."""
    remote = tmp_path / "remote.git"
    await GitWitness(remote).publish(NOTES[3])

    with pytest.raises(WitnessError, match="git push failed"):
        await GitWitness(tmp_path / "local.git", remote=str(remote)).publish(NOTES[5])
    assert await GitWitness(remote).fetch() == [NOTES[3]]


async def test_two_replicas_cannot_lose_a_commit(tmp_path: Path) -> None:
    """If several replicas publish at once, every note that was reported as kept is in the history."""
    await GitWitness(tmp_path / "one.git").publish(NOTES[1])
    tries = await asyncio.gather(
        *(GitWitness(tmp_path / "one.git").publish(NOTES[size]) for size in (2, 3, 4, 5)), return_exceptions=True
    )
    kept = await GitWitness(tmp_path / "one.git").fetch()
    said = [NOTES[size] for size, done in zip((2, 3, 4, 5), tries, strict=True) if isinstance(done, str)]

    assert all(isinstance(done, str | WitnessError) for done in tries)
    assert said and kept == [NOTES[1], *said]


async def test_the_callers_git_settings_do_not_reach_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Git variables and hooks of the caller have no effect."""
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "index"))
    await GitWitness(tmp_path / "new.git").publish(NOTES[1])

    assert not (tmp_path / "elsewhere").exists() and os.environ["GIT_DIR"]
    assert await GitWitness(tmp_path / "new.git").fetch() == [NOTES[1]]


@pytest.mark.parametrize(
    ("branch", "remote"), [("-x", None), ("a..b", None), ("", None), ("ok", "--upload-pack=touch x")]
)
def test_names_that_git_would_take_for_options_are_refused(tmp_path: Path, branch: str, remote: str | None) -> None:
    """A branch or a remote that git would parse as an option is refused."""
    with pytest.raises(WitnessError):
        GitWitness(tmp_path / "x.git", branch, remote)


async def test_the_error_has_the_message_of_git(tmp_path: Path) -> None:
    """The error has the message of git, for a folder that is not a repository and for a timeout."""
    (tmp_path / "plain").mkdir()
    with pytest.raises(WitnessError, match="not a git repository"):
        await GitWitness(tmp_path / "plain").publish(NOTES[1])
    with pytest.raises(WitnessError, match="timed out after"):
        await GitWitness(tmp_path / "new.git", timeout=1e-6).publish(NOTES[1])
