"""Files with secret keys: the modes of a Secret that Kubernetes mounts, and those that other users can use."""

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
    """Only this service reads it."""
    assert read_key_file(_file(tmp_path, mode)) == "key\n"


@needs_root
@pytest.mark.parametrize("mode", [0o440, 0o640])
def test_a_mounted_secret(tmp_path: Path, mode: int) -> None:
    """Another user owns it, and a group of this service may read it: a Secret with fsGroup."""
    path = _file(tmp_path, mode)
    os.chown(path, SOMEBODY_ELSE, os.getegid())
    assert read_key_file(path) == "key\n"


@pytest.mark.promise(11)
@needs_root
@pytest.mark.parametrize(("mode", "group"), [(0o444, "ours"), (0o460, "ours"), (0o660, "ours"), (0o440, "other")])
def test_a_file_of_others_is_refused(tmp_path: Path, mode: int, group: str) -> None:
    """Everybody reads it, the group may change it, or the group is a foreign one."""
    path = _file(tmp_path, mode)
    os.chown(path, SOMEBODY_ELSE, os.getegid() if group == "ours" else SOMEBODY_ELSE)
    with pytest.raises(ConfigurationError, match="let root own it with mode 0440"):
        read_key_file(path)


def _file(folder: Path, mode: int) -> Path:
    path = folder / "links.key"
    path.write_text("key\n")
    path.chmod(mode)
    return path
