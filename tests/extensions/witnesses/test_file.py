"""Checkpoints in a file."""

from __future__ import annotations

import asyncio
import fcntl
import subprocess
import sys
from pathlib import Path

import pytest

from remediator.extensions.witnesses.base import WitnessError
from remediator.extensions.witnesses.file import FileWitness
from tests.support.witness_suite import NOTES, NotarySuite

pytestmark = pytest.mark.promise(9)


@pytest.fixture
def notary(tmp_path: Path) -> FileWitness:
    """Return a witness with a file in a separate folder."""
    return FileWitness(tmp_path / "checkpoints")


class TestFileNotary(NotarySuite):
    """Run the tests of all witnesses on a file."""


async def test_a_truncated_note_is_skipped(tmp_path: Path) -> None:
    """After a crash at any byte of the last note, the next publication completes it."""
    path = tmp_path / "checkpoints"
    await FileWitness(path).publish(NOTES[2])
    whole = path.read_bytes()
    await FileWitness(path).publish(NOTES[5])
    both = path.read_bytes()
    for cut in range(len(whole), len(both)):
        path.write_bytes(both[:cut])
        await FileWitness(path).publish(NOTES[5])
        kept = await FileWitness(path).fetch()
        assert (kept[0], kept[-1]) == (NOTES[2], NOTES[5]), f"cut at {cut}"


async def test_the_file_only_grows(tmp_path: Path) -> None:
    """The file only grows at its end, so it can have the append-only attribute."""
    path, before = tmp_path / "checkpoints", b""
    for size in (1, 2, 2, 5, 5, 9):
        await FileWitness(path).publish(NOTES[size])
        assert path.read_bytes().startswith(before)
        before = path.read_bytes()


async def test_replicas_write_one_after_the_other(tmp_path: Path) -> None:
    """While another process holds the file, nothing is written; afterwards, the notes of that process are read."""
    path = tmp_path / "checkpoints"
    with path.open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        waiting = asyncio.create_task(FileWitness(path).publish(NOTES[4]))
        done, _ = await asyncio.wait({waiting}, timeout=0.3)
        assert not done and path.read_bytes() == b""
        other.write(NOTES[4].encode())
    await waiting

    assert path.read_text() == NOTES[4]


async def test_an_unmounted_volume_is_noticed(tmp_path: Path) -> None:
    """A missing folder is an error and is not created, because its volume may not be mounted."""
    with pytest.raises(WitnessError, match="No such file"):
        await FileWitness(tmp_path / "volume" / "checkpoints").publish(NOTES[1])
    with pytest.raises(WitnessError):
        await FileWitness(tmp_path).fetch()


_NO_ROOM = """
import asyncio, resource, sys
from pathlib import Path
from remediator.extensions.witnesses.base import WitnessError
from remediator.extensions.witnesses.file import FileWitness
from tests.support.witness_suite import NOTES
path = Path(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 60, resource.RLIM_INFINITY))
try:
    asyncio.run(FileWitness(path).publish(NOTES[5]))
except WitnessError as error:
    print(error)
"""


async def test_a_full_disk_is_an_error_and_a_later_publication_completes_the_note(tmp_path: Path) -> None:
    """If only a part of a note fits on the disk, there is an error; after space is freed, the next publication
    completes the note."""
    path = tmp_path / "checkpoints"
    await FileWitness(path).publish(NOTES[2])
    said = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", _NO_ROOM, str(path)], capture_output=True, text=True, timeout=60
    )
    assert "File too large" in said.stdout

    await FileWitness(path).publish(NOTES[5])

    assert await FileWitness(path).fetch() == [NOTES[2], NOTES[5]]
