"""Files of a service: its data folder, its backups and their quarantine.

They are on this host, on another host, or on a volume of a cluster.

A volume of a cluster can be mounted only in the namespace of its service. There, an agent in the service's pod does the
work of this module (`agent`), and `client` sends it requests.
"""

from __future__ import annotations

import asyncio
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, TypeVar

from remediator.clients.host.disk import File, Pin, Usage
from remediator.clients.host.folders import FolderOperations, Folders
from remediator.clients.host.quarantine import Moved
from remediator.clients.redis.files import rdb_problem
from remediator.core.clock import rfc3339
from remediator.errors import TargetError

T = TypeVar("T")


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
        """Return the problem of a backup of Redis, or None if it is complete."""

    @abstractmethod
    async def is_quarantine_on_same_filesystem(self) -> bool:
        """Return whether moving a backup to quarantine frees no space."""

    @abstractmethod
    async def batches(self) -> dict[str, dict[str, Any]]:
        """Return the list of each batch in quarantine, by its name."""

    @abstractmethod
    async def pins(self, files: tuple[File, ...]) -> tuple[Pin, ...]:
        """Return the approved properties of each backup, including its content. Reads each file once."""

    @abstractmethod
    async def take(self, files: tuple[Pin, ...], batch: str, now: datetime) -> tuple[Moved, ...]:
        """Move backups to quarantine, each only if it is unchanged since planning."""

    @abstractmethod
    async def delete(self, batch: str, sha256: str) -> int:
        """Delete a batch permanently, only if its list has this checksum. Return the bytes that this freed."""

    @abstractmethod
    async def restore(self, batch: str, sha256: str) -> tuple[str, ...]:
        """Move a batch back to the backups, only if its list has this checksum. Return the names of its files."""

    async def clock_ahead(self) -> timedelta:
        """Return by how much the clock of the files is ahead of this host's. Default: not at all."""
        return timedelta(0)

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

    def __init__(self, folders: Folders) -> None:
        super().__init__(folders)
        self._here = FolderOperations(folders)

    async def usage(self) -> Usage:
        return await asyncio.to_thread(self._here.usage)

    async def space(self) -> dict[str, int]:
        return await asyncio.to_thread(self._here.space)

    async def backups_usage(self) -> Usage:
        return await asyncio.to_thread(self._here.backups_usage)

    async def backups(self) -> tuple[File, ...]:
        return await asyncio.to_thread(self._here.backups)

    async def backup_problem(self, name: str) -> str | None:
        return await rdb_problem(self._here.backup(name))

    async def is_quarantine_on_same_filesystem(self) -> bool:
        return await asyncio.to_thread(self._here.is_quarantine_on_same_filesystem)

    async def batches(self) -> dict[str, dict[str, Any]]:
        return await asyncio.to_thread(self._here.batches)

    async def pins(self, files: tuple[File, ...]) -> tuple[Pin, ...]:
        return await _until_cancelled(lambda going_on: self._here.pins(files, going_on))

    async def take(self, files: tuple[Pin, ...], batch: str, now: datetime) -> tuple[Moved, ...]:
        return await _until_cancelled(lambda going_on: self._here.take(files, batch, rfc3339(now), going_on))

    async def delete(self, batch: str, sha256: str) -> int:
        return await _until_cancelled(lambda going_on: self._here.delete(batch, sha256, going_on))

    async def restore(self, batch: str, sha256: str) -> tuple[str, ...]:
        return await _until_cancelled(lambda going_on: self._here.restore(batch, sha256, going_on))


async def _until_cancelled(work: Callable[[Callable[[], bool]], T]) -> T:
    """Run work in a thread. It is given a function that returns False as soon as the caller has given up."""
    stop = threading.Event()
    try:
        return await asyncio.to_thread(work, lambda: not stop.is_set())
    finally:
        stop.set()
