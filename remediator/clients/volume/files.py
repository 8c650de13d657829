"""Files of a service: its data folder, its backups and their quarantine, on this host or through an agent beside it.

A volume of a cluster can be mounted only in the namespace of its service. There, an agent in the service's pod does
what this module does on a host (`agent`), and `client` asks it.
"""

from __future__ import annotations

import asyncio
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from remediator.clients.host import disk
from remediator.clients.host.disk import File, Pin, Usage
from remediator.clients.host.quarantine import Moved, Quarantine
from remediator.clients.redis.files import rdb_problem
from remediator.errors import Refused, TargetError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Folders:
    """Absolute paths of the folders of a service. A service without backups has none of the last three."""

    data: str | None
    backups: str | None = None
    pattern: str = ""
    """Shell pattern for the names of backups."""
    quarantine: str | None = None


class Volume(ABC):
    """The files of a service. Every method raises ``TargetError`` if a folder is missing or a file has changed."""

    def __init__(self, folders: Folders) -> None:
        self.folders = folders

    @abstractmethod
    async def usage(self) -> Usage:
        """Return the usage of the filesystem of the data folder."""

    @abstractmethod
    async def space(self) -> dict[str, int]:
        """Return the size on disk, in bytes, of each file below the data folder."""

    @abstractmethod
    async def backups_usage(self) -> Usage:
        """Return the usage of the filesystem of the backups."""

    @abstractmethod
    async def backups(self) -> tuple[File, ...]:
        """Return the backups, last changed first."""

    @abstractmethod
    async def backup_problem(self, name: str) -> str | None:
        """Return what is wrong with a backup of Redis, or None if it is complete."""

    @abstractmethod
    async def is_quarantine_on_same_filesystem(self) -> bool:
        """Return whether moving a backup to quarantine frees no space."""

    @abstractmethod
    async def batches(self) -> dict[str, dict[str, Any]]:
        """Return the list of each batch in quarantine, by its name."""

    @abstractmethod
    async def pins(self, files: tuple[File, ...]) -> tuple[Pin, ...]:
        """Return what is approved of each backup, its content included. It reads each file once."""

    @abstractmethod
    async def take(self, files: tuple[Pin, ...], batch: str, now: datetime) -> tuple[Moved, ...]:
        """Move backups to quarantine, each only if it is unchanged since planning."""

    @abstractmethod
    async def delete(self, batch: str, sha256: str) -> int:
        """Delete a batch permanently, only if its list has this checksum. Return the bytes that this freed."""

    @abstractmethod
    async def restore(self, batch: str, sha256: str) -> tuple[str, ...]:
        """Move a batch back to the backups, only if its list has this checksum. Return the names of its files."""

    async def batch(self, name: str) -> dict[str, Any]:
        """Return the list of a batch.

        Raises:
            TargetError: there is no such batch.
        """
        found = (await self.batches()).get(name)
        if found is None:
            raise TargetError(f"there is no batch {name!r} in {self.folders.quarantine}: it was deleted or restored")
        return found

    async def batch_sizes(self) -> dict[str, int]:
        """Return the size of each batch in bytes, by its name."""
        batches = (await self.batches()).items()
        return {name: sum(int(each["size"]) for each in note["files"]) for name, note in batches}


class LocalVolume(Volume):
    """The files of a service on this host. A call that is cancelled stops after the current file."""

    async def usage(self) -> Usage:
        return await asyncio.to_thread(disk.usage, self._data)

    async def space(self) -> dict[str, int]:
        return await asyncio.to_thread(disk.space, self._data)

    async def backups_usage(self) -> Usage:
        return await asyncio.to_thread(disk.usage, self._backups)

    async def backups(self) -> tuple[File, ...]:
        return await asyncio.to_thread(disk.listed, self._backups, self.folders.pattern)

    async def backup_problem(self, name: str) -> str | None:
        return await rdb_problem(self._backups / disk.component(name))

    async def is_quarantine_on_same_filesystem(self) -> bool:
        return await asyncio.to_thread(_is_on_same_filesystem, self._backups, self._quarantine.folder)

    async def batches(self) -> dict[str, dict[str, Any]]:
        return await asyncio.to_thread(self._quarantine.batches)

    async def pins(self, files: tuple[File, ...]) -> tuple[Pin, ...]:
        return await _until_cancelled(lambda going_on: _pinned(self._backups, files, going_on))

    async def take(self, files: tuple[Pin, ...], batch: str, now: datetime) -> tuple[Moved, ...]:
        take = self._quarantine.take
        return await _until_cancelled(lambda going_on: take(self._backups, files, batch, now, going_on))

    async def delete(self, batch: str, sha256: str) -> int:
        delete = self._quarantine.delete
        return await _until_cancelled(lambda going_on: delete(batch, sha256, going_on))

    async def restore(self, batch: str, sha256: str) -> tuple[str, ...]:
        restore = self._quarantine.restore
        return await _until_cancelled(lambda going_on: restore(batch, sha256, self._backups, going_on))

    @property
    def _data(self) -> Path:
        return _known(self.folders.data, "data folder")

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


async def _until_cancelled(work: Callable[[Callable[[], bool]], T]) -> T:
    """Run work in a thread. It is given a function that returns False as soon as the caller has given up."""
    stop = threading.Event()
    try:
        return await asyncio.to_thread(work, lambda: not stop.is_set())
    finally:
        stop.set()


def _pinned(backups: Path, files: tuple[File, ...], going_on: Callable[[], bool]) -> tuple[Pin, ...]:
    pins: list[Pin] = []
    with disk.opened(backups) as handle:
        for file in files:
            if not going_on():
                break
            pins.append(disk.pinned(handle, file))
    return tuple(pins)


def _is_on_same_filesystem(backups: Path, quarantine: Path) -> bool:
    try:
        nearest = next(each for each in (quarantine, *quarantine.parents) if each.exists())
    except PermissionError:
        raise Refused(f"no permission to read {quarantine}") from None
    return disk.same_filesystem(backups, nearest)
