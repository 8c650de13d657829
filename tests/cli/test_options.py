"""Output files, durations, error messages and exit status are the same for all commands."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from demo.stack.settings import ROOT
from remediator.cli._options import writing
from remediator.core.clock import before
from remediator.errors import InputError
from tests.support import commands

NOW = datetime(2026, 3, 1, 3, 0, tzinfo=UTC)


def test_an_output_file_is_replaced_only_on_success(tmp_path: Path) -> None:
    """After an error, the old file is unchanged and no other file remains. Permissions are kept."""
    path = tmp_path / "report.html"
    path.write_bytes(b"old")
    path.chmod(0o640)
    with pytest.raises(RuntimeError), writing(path) as file:
        file.write(b"half")
        raise RuntimeError
    assert path.read_bytes() == b"old"
    with writing(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o640
    assert [item.name for item in tmp_path.iterdir()] == ["report.html"]


def test_a_symbolic_link_is_followed(tmp_path: Path) -> None:
    """``--output`` writes to the file that the link names."""
    path, link = tmp_path / "report.html", tmp_path / "latest.html"
    path.write_bytes(b"old")
    link.symlink_to(path)
    with writing(link) as file:
        file.write(b"new")
    assert link.is_symlink()
    assert path.read_bytes() == b"new"


def test_a_pipe_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    """``--output`` with a named pipe gives the output to the reader of the pipe."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(path.read_bytes()))
    reader.start()
    with writing(path) as file:
        file.write(b"new")
    reader.join()
    assert read == [b"new"]
    assert path.is_fifo()


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    """The error names the folder before the command does any work."""
    with (
        pytest.raises(InputError, match=r"nowhere/report\.html cannot be written: No such file"),
        writing(tmp_path / "nowhere" / "report.html"),
    ):
        pytest.fail("the block ran")


@pytest.mark.parametrize("length", ["3000y", "999999999w", "soon", ""])
def test_an_impossible_age_is_an_error(length: str) -> None:
    """``--since`` refuses an age that begins before the year 1, and a word that is not a duration."""
    with pytest.raises(InputError):
        before(NOW, length)


def test_a_day_has_24_hours() -> None:
    """One day is 24 hours, and not a calendar day."""
    assert before(NOW, "30d") == NOW - timedelta(days=30)


@pytest.mark.parametrize(
    ("argv", "status", "said"),
    [
        (("report", "--since", "3000y"), 2, "remediator: "),
        (("report", "--output", "nowhere/report.md"), 2, "nowhere/report.md cannot be written"),
        (("audit", "export", "--format", "csv", "--output", "/dev/full"), 3, "No space left on device"),
        (("stop", "create", "--reason", "x", "--duration", "9000d"), 2, "year"),
    ],
)
def test_errors_are_one_line_with_an_exit_status(tmp_path: Path, argv: tuple[str, ...], status: int, said: str) -> None:
    """An expected error is one line without a traceback, and has an exit status."""
    (tmp_path / "inventory.yaml").write_text("apiVersion: remediator/v1\nkind: Inventory\nservices: {}\n")
    (tmp_path / "remediator.yaml").write_text(
        "apiVersion: remediator/v1\nkind: Config\nstate: state\nplaybooks: []\ninventory: inventory.yaml\n"
    )
    migrated = commands.remediator("db", "migrate", folder=tmp_path)
    assert migrated.returncode == 0, migrated.stderr
    done = commands.remediator(*argv, folder=tmp_path)
    assert (done.returncode, "Traceback" in done.stderr) == (status, False), done.stderr
    assert said in done.stderr


@pytest.mark.parametrize("argv", [("serve",), ("doctor",), ("status",), ("run", "list"), ("lint",), ("test",)])
def test_in_a_folder_without_files_every_command_says_what_to_do_first(tmp_path: Path, argv: tuple[str, ...]) -> None:
    """The command exits with 2 and names ``remediator init``."""
    done = commands.remediator(*argv, folder=tmp_path, environment={})
    assert done.returncode == 2, done.stderr
    assert "'remediator init'" in done.stderr and "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_text_that_the_terminal_cannot_show_is_escaped(tmp_path: Path) -> None:
    """For a Latin-1 terminal, other characters are escaped and cause no error."""
    (tmp_path / "→.yaml").write_text("apiVersion: remediator/v1\nkind: Playbok\n", encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "latin-1"}
    command = (sys.executable, "-m", "remediator", "lint", ".")
    done = subprocess.run(command, cwd=tmp_path, env=environment, text=True, capture_output=True, check=False)
    assert (done.returncode, "Traceback" in done.stderr) == (1, False), done.stderr
    assert "\\u2192.yaml:2" in done.stdout
