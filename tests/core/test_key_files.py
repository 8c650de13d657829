"""Files with secret keys: accepted with the modes of a mounted Secret, and refused if other users can read or change
them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from remediator.core.key_files import read_key_file
from remediator.errors import ConfigurationError

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")
SOMEBODY_ELSE = 12_345


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_a_file_of_its_own(tmp_path: Path, mode: int) -> None:
    """A file that only this service can read is accepted."""
    assert read_key_file(_file(tmp_path, mode)) == "key\n"


@needs_root
@pytest.mark.parametrize("mode", [0o440, 0o640])
def test_a_mounted_secret(tmp_path: Path, mode: int) -> None:
    """A file of another user that a group of this service can read is accepted, as in a Secret with fsGroup."""
    path = _file(tmp_path, mode)
    os.chown(path, SOMEBODY_ELSE, os.getegid())
    assert read_key_file(path) == "key\n"


@pytest.mark.promise(11)
@needs_root
@pytest.mark.parametrize(("mode", "group"), [(0o444, "ours"), (0o460, "ours"), (0o660, "ours"), (0o440, "other")])
def test_a_file_of_others_is_refused(tmp_path: Path, mode: int, group: str) -> None:
    """A file is refused if everyone can read it, if the group can change it, or if the group is not one of this
    service."""
    path = _file(tmp_path, mode)
    os.chown(path, SOMEBODY_ELSE, os.getegid() if group == "ours" else SOMEBODY_ELSE)
    with pytest.raises(ConfigurationError, match="let root own it with mode 0440"):
        read_key_file(path)


def _file(folder: Path, mode: int) -> Path:
    path = folder / "links.key"
    path.write_text("key\n")
    path.chmod(mode)
    return path
