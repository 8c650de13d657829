"""Archive files: entries that were moved out of the database still verify."""

from __future__ import annotations

import gzip
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from remediator.audit import GENESIS, Problem, archive, verify
from remediator.audit.archive import ArchiveError
from remediator.audit.verification import Anchors
from tests.support.sample_logs import KEYS, heads, make, note

pytestmark = pytest.mark.promise(9)

ROWS, HEAD = make(30)
HEADS = heads(ROWS)


def _archive(folder: Path, *ends: int) -> list[archive.Segment]:
    begin, written = 0, []
    for end in ends:
        written.append(archive.write(folder, HEADS[begin], ROWS[begin:end], HEADS[end], note(HEADS[end])))
        begin = end
    return written


def test_segments_and_the_live_log_verify_as_one(tmp_path: Path) -> None:
    """Entries in several files and in the database verify with checkpoints signed before and after the archiving."""
    _archive(tmp_path, 10, 17)
    start, rows = archive.join_live(archive.list_segments(tmp_path), ROWS[17:])
    result = verify(rows, Anchors([note(HEADS[5]), note(HEADS[12]), note(HEAD)], KEYS), start=start, head=HEAD)

    assert start == GENESIS and result.ok and result.checkpoints == (5, 12, 30)


def test_entries_in_both_places_count_once(tmp_path: Path) -> None:
    """After a crash between archiving and deleting, entries in both places are not reported as repeated."""
    _archive(tmp_path, 10)
    start, rows = archive.join_live(archive.list_segments(tmp_path), ROWS)

    assert verify(rows, start=start, head=HEAD).ok


def test_a_missing_segment_is_named(tmp_path: Path) -> None:
    """Verification names a gap between segments, or between the last segment and the live log."""
    segments = _archive(tmp_path, 10, 17, 20)
    segments[1].path.unlink()
    start, rows = archive.join_live(archive.list_segments(tmp_path), ROWS[20:])
    [finding] = verify(rows, start=start).findings

    assert (finding.problem, finding.seq) == (Problem.MISSING, 11)


def test_oldest_segments_can_be_removed(tmp_path: Path) -> None:
    """Without the oldest file, verification begins at the next file, and a later checkpoint proves its start."""
    segments = _archive(tmp_path, 10, 17)
    segments[0].path.unlink()
    start, rows = archive.join_live(archive.list_segments(tmp_path), ROWS[17:])
    result = verify(rows, Anchors([note(HEADS[5]), note(HEAD)], KEYS), start=start, head=HEAD)

    assert result.ok and result.first == 11 and result.checkpoints == (30,)
    assert result.remarks == (
        "Checkpoints of fewer than 10 entries were not compared: those entries were not given.",
        "Entries 1 to 10 were not checked: the given entries begin later.",
    )


def test_writing_again_after_a_crash_is_harmless(tmp_path: Path) -> None:
    """Archiving the same entries again gives the same bytes, and an existing file is kept."""
    [segment] = _archive(tmp_path / "a", 10)
    kept = segment.path.read_bytes()
    [again] = _archive(tmp_path / "a", 10)
    [elsewhere] = _archive(tmp_path / "b", 10)

    assert again == segment and again.path.read_bytes() == kept == elsewhere.path.read_bytes()
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["audit-000000000001-000000000010.jsonl.gz"]


def test_entries_that_do_not_verify_are_not_archived(tmp_path: Path) -> None:
    """A gap, a wrong end or a file of another log is an error, so nothing is deleted from the database."""
    with pytest.raises(ArchiveError, match="entry 5 is missing"):
        archive.write(tmp_path, GENESIS, [*ROWS[:4], *ROWS[5:10]], HEADS[10])
    with pytest.raises(ArchiveError, match="does not verify"):
        archive.write(tmp_path, GENESIS, ROWS[:10], HEADS[11])
    with pytest.raises(ArchiveError):
        archive.write(tmp_path, GENESIS, [], GENESIS)
    others, head = make(10, tag="other")
    archive.write(tmp_path, GENESIS, others, head)
    with pytest.raises(ArchiveError, match="contains other entries"):
        archive.write(tmp_path, GENESIS, ROWS[:10], HEADS[10])


def test_a_file_with_the_right_name_and_header_is_not_enough(tmp_path: Path) -> None:
    """An existing file counts as written only after it was read back and verified."""
    [segment] = _archive(tmp_path, 10)
    lines = gzip.decompress(segment.path.read_bytes()).replace(b"reason 4", b"reason 5")
    segment.path.write_bytes(gzip.compress(lines))

    with pytest.raises(ArchiveError, match="entry 5 was changed"):
        archive.write(tmp_path, GENESIS, ROWS[:10], HEADS[10])


@pytest.mark.slow
def test_every_damage_to_a_file_is_found(tmp_path: Path) -> None:
    """Every flipped bit and every truncation of a file gives an error or a finding, never a silent pass."""
    [segment] = _archive(tmp_path, 10)
    whole = segment.path.read_bytes()
    changed = [whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :] for at in range(len(whole))]
    for content in [*changed, *(whole[:at] for at in range(0, len(whole), 7))]:
        segment.path.write_bytes(content)
        try:
            loaded = archive.load(segment.path)
            good = (
                verify(loaded.entries(), start=loaded.start, head=loaded.end).ok
                and (loaded.start, loaded.end) == (segment.start, segment.end)
                and list(loaded.entries()) == ROWS[:10]
            )
        except ArchiveError as error:
            assert segment.path.name in str(error)
            good = False
        # some bytes of a gzip header (time, system) do not affect the content
        assert not good or gzip.decompress(content) == gzip.decompress(whole)


def test_file_that_is_not_a_segment_is_refused(tmp_path: Path) -> None:
    """A missing file, a file without gzip or header, or one of another format version is an error."""
    path = tmp_path / "audit-000000000001-000000000002.jsonl.gz"
    with pytest.raises(ArchiveError, match="cannot read the archive file"):
        archive.load(path)
    for content in (b"", b"plain", gzip.compress(b""), gzip.compress(b"{}\n"), gzip.compress(b"[]\n")):
        path.write_bytes(content)
        with pytest.raises(ArchiveError):
            archive.load(path)
    [segment] = _archive(tmp_path / "good", 2)
    path.write_bytes(gzip.compress(gzip.decompress(segment.path.read_bytes()).replace(b'"archive":1', b'"archive":2')))
    with pytest.raises(ArchiveError, match="format version 2"):
        archive.load(path)


_NO_ROOM = """
import resource, sys
from pathlib import Path
from remediator.audit import archive
from remediator.audit import GENESIS
from tests.support.sample_logs import make
rows, head = make(300)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    archive.write(Path(sys.argv[1]), GENESIS, rows, head)
except archive.ArchiveError as error:
    print(error)
"""


@pytest.mark.process
def test_full_disk_leaves_no_partial_file(tmp_path: Path) -> None:
    """If the disk is full, writing fails with a reason and leaves neither a segment nor a temporary file."""
    said = subprocess.run(
        [sys.executable, "-c", _NO_ROOM, str(tmp_path)], capture_output=True, text=True, timeout=60, check=True
    )

    assert ": File too large" in said.stdout
    assert list(tmp_path.iterdir()) == []


_CHILD = """
import sys
from pathlib import Path
from remediator.audit import archive
from remediator.audit import GENESIS
from tests.support.sample_logs import make
rows, head = make(3000, group=100)
print("ready", flush=True)
sys.stdin.readline()
archive.write(Path(sys.argv[1]), GENESIS, rows, head)
print("done", flush=True)
"""


@pytest.mark.process
@pytest.mark.parametrize("after", [0.0001, 0.002, 0.01, 0.03, 0.06])
def test_sigkill_leaves_a_complete_file_or_none(tmp_path: Path, after: float) -> None:
    """After SIGKILL at any moment, a file with the name of a segment is complete, and writing it again succeeds."""
    child = subprocess.Popen(
        [sys.executable, "-c", _CHILD, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    with child:
        assert child.stdin is not None and child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        child.stdin.write(b"\n")
        child.stdin.flush()
        try:
            child.wait(after)
        except subprocess.TimeoutExpired:
            os.kill(child.pid, signal.SIGKILL)
    for segment in archive.list_segments(tmp_path):
        assert verify(segment.entries(), start=segment.start, head=segment.end).ok
    rows, head = make(3000, group=100)

    assert archive.write(tmp_path, GENESIS, rows, head).end == head
