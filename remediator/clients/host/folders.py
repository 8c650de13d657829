"""The operations on the folders of a service on their host. All of it blocks: call it in a thread.

``remediator-remote`` does the same on another host, with this code.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from remediator.clients.host.disk import (
    File,
    Pin,
    Usage,
    component,
    listed,
    opened,
    pinned,
    same_filesystem,
    space,
    usage,
)
from remediator.clients.host.quarantine import Moved, Quarantine
from remediator.errors import Refused, TargetError


@dataclass(frozen=True, slots=True)
class Folders:
    """Absolute paths of the folders of a service. Without backups, the last three folders are missing."""

    data: str | None
    backups: str | None = None
    pattern: str = ""
    """Shell pattern for the names of backups."""
    quarantine: str | None = None


class FolderOperations:
    """The operations on the folders of one service. ``going_on`` is called before each file; False stops."""

    def __init__(self, folders: Folders) -> None:
        self.folders = folders

    def usage(self) -> Usage:
        """Return the usage of the filesystem of the data folder."""
        return usage(_known(self.folders.data, "data folder"))

    def space(self) -> dict[str, int]:
        """Return the size on disk, in bytes, of each file below the data folder."""
        return space(_known(self.folders.data, "data folder"))

    def backups_usage(self) -> Usage:
        """Return the usage of the filesystem of the backups."""
        return usage(self._backups)

    def backups(self) -> tuple[File, ...]:
        """Return the backups, last changed first."""
        return listed(self._backups, self.folders.pattern)

    def backup(self, name: str) -> Path:
        """Return the path of a backup."""
        return self._backups / component(name)

    def is_quarantine_on_same_filesystem(self) -> bool:
        """Return whether moving a backup to quarantine frees no space."""
        folder = self._quarantine.folder
        try:
            nearest = next(each for each in (folder, *folder.parents) if each.exists())
        except PermissionError:
            raise Refused(f"no permission to read {folder}") from None
        return same_filesystem(self._backups, nearest)

    def batches(self) -> dict[str, dict[str, Any]]:
        """Return the list of each batch in quarantine, by its name."""
        return self._quarantine.batches()

    def pins(self, files: tuple[File, ...], going_on: Callable[[], bool]) -> tuple[Pin, ...]:
        """Return the approved properties of each backup, including its content. Reads each file once."""
        pins = []
        with opened(self._backups) as handle:
            for file in files:
                if not going_on():
                    break
                pins.append(pinned(handle, file))
        return tuple(pins)

    def take(self, files: tuple[Pin, ...], batch: str, at: str, going_on: Callable[[], bool]) -> tuple[Moved, ...]:
        """Move backups to quarantine, each only if it is unchanged since planning."""
        return self._quarantine.take(self._backups, files, batch, at, going_on)

    def delete(self, batch: str, sha256: str, going_on: Callable[[], bool]) -> int:
        """Delete a batch permanently, only if its list has this checksum. Return the bytes that this freed."""
        return self._quarantine.delete(batch, sha256, going_on)

    def restore(self, batch: str, sha256: str, going_on: Callable[[], bool]) -> tuple[str, ...]:
        """Move a batch back, only if its list has this checksum. Return the names of its files."""
        return self._quarantine.restore(batch, sha256, self._backups, going_on)

    @property
    def _backups(self) -> Path:
        return _known(self.folders.backups, "backup folder")

    @property
    def _quarantine(self) -> Quarantine:
        return Quarantine(_known(self.folders.quarantine, "quarantine"))


def _known(folder: str | None, what: str) -> Path:
    if folder is None:
        raise TargetError(f"no {what} is configured")
    return Path(folder)
