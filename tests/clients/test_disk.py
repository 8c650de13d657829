"""Files that this service writes and reads back: which files it accepts as its own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from remediator.clients.host import disk
from remediator.errors import Refused


def test_a_hard_link_is_not_read_as_an_own_file(tmp_path: Path) -> None:
    """A hard link in the service's folder is refused, because its content may be a file of another user."""
    (tmp_path / "elsewhere.json").write_text("{}")
    os.link(tmp_path / "elsewhere.json", tmp_path / "note.json")
    with disk.opened(tmp_path) as folder, pytest.raises(Refused, match=r"note\.json is a hard link"):
        disk.read_own(folder, "note.json")


def test_a_file_that_is_replaced_while_it_is_open_is_still_an_own_file(tmp_path: Path) -> None:
    """A thread replaces the list of files repeatedly. A reader that has the old file open must not fail."""
    (tmp_path / "note.json").write_text("old")
    with disk.opened(tmp_path) as folder, os.fdopen(disk.open_file(folder, "note.json"), "rb") as file:
        (tmp_path / "draft").write_text("new")
        (tmp_path / "draft").rename(tmp_path / "note.json")
        disk.require_own(file.fileno(), "note.json")
        assert file.read() == b"old"
