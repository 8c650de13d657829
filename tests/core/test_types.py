"""The form in which paths of files are read and shown."""

from __future__ import annotations

from pathlib import Path

from remediator.core.types import FilePath, Strict


class Named(Strict):
    """A file that refers to another one."""

    path: FilePath


def seen(path: str, base: Path) -> Path:
    return Named.model_validate({"path": path}, context={"base": base}).path


def test_a_relative_path_begins_at_its_file_and_is_shown_short(tmp_path: Path) -> None:
    """A relative path starts at the folder of its file, and is shown without ``..``."""
    (tmp_path / "settings").mkdir()
    assert seen("../redis/backups", tmp_path / "settings") == tmp_path / "redis/backups"
    assert seen("keys/a.key", tmp_path / "settings") == tmp_path / "settings/keys/a.key"
    assert seen("/srv/redis", tmp_path / "settings") == Path("/srv/redis")


def test_a_path_through_a_symbolic_link_is_not_shortened(tmp_path: Path) -> None:
    """``..`` after a symbolic link is not shortened, so the shown path is the one that the system opens."""
    (tmp_path / "far/settings").mkdir(parents=True)
    (tmp_path / "settings").symlink_to(tmp_path / "far/settings")
    (tmp_path / "far/redis").mkdir()
    assert seen("../redis", tmp_path / "settings").samefile(tmp_path / "far/redis")
