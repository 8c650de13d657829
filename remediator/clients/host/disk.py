"""Files of this host, looked at and moved without ever following a link or leaving the filesystem that is meant.

Everything is done relative to open folders (openat), names are single, and each step refuses links. All of it blocks:
call it in a thread.
"""

from __future__ import annotations

import fnmatch
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from remediator.errors import Refused, TargetError

_MOST = 200_000
"""Files that are looked at; a folder with more is not understood, and left alone."""
_PIECE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Usage:
    """How full a filesystem is, as an ordinary user meets it; sizes in bytes."""

    size: int
    used: int
    free: int

    @property
    def percent(self) -> float:
        """Of what can be used at all, as ``df`` counts it."""
        return 100.0 * self.used / max(self.used + self.free, 1)


@dataclass(frozen=True, slots=True)
class File:
    """A regular file in a folder; ``space`` is what it takes on the disk. Sizes in bytes, ``changed`` in ns."""

    name: str
    size: int
    space: int
    changed: int
    inode: int


@contextmanager
def opened(folder: Path) -> Iterator[int]:
    """A folder, open; it may not be a link itself.

    Raises:
        TargetError: it is not there, a link, or no folder.
        Refused: it may not be read.
    """
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except PermissionError:
        raise Refused(f"{folder} may not be read") from None
    except OSError as error:
        raise TargetError(f"{folder} is no folder that can be used: {error.strerror}") from None
    try:
        yield handle
    finally:
        os.close(handle)


def usage(folder: Path) -> Usage:
    """How full the filesystem of a folder is."""
    with opened(folder) as handle:
        found = os.fstatvfs(handle)
    blocks = found.f_frsize
    return Usage(found.f_blocks * blocks, (found.f_blocks - found.f_bfree) * blocks, found.f_bavail * blocks)


def listed(folder: Path, pattern: str) -> tuple[File, ...]:
    """The regular files of a folder whose names match, the last changed first. Links and others are left out."""
    with opened(folder) as handle:
        return listed_in(handle, pattern)


def listed_in(handle: int, pattern: str) -> tuple[File, ...]:
    found = []
    with os.scandir(handle) as entries:
        for entry in entries:
            if fnmatch.fnmatchcase(entry.name, pattern) and entry.is_file(follow_symlinks=False):
                seen = stat_of(handle, entry.name)
                if seen is None:
                    continue
                found.append(File(entry.name, seen.st_size, seen.st_blocks * 512, seen.st_mtime_ns, seen.st_ino))
    return tuple(sorted(found, key=lambda file: (-file.changed, file.name)))


def space(folder: Path) -> dict[str, int]:
    """Path below a folder → bytes that the file takes, without links and without other filesystems.

    Raises:
        TargetError: there are too many files to tell.
    """
    found: dict[str, int] = {}
    with opened(folder) as top:
        device = os.fstat(top).st_dev
        for path, folders, files, handle in os.fwalk(".", dir_fd=top, follow_symlinks=False):
            folders[:] = [each for each in folders if _device(handle, each) == device]
            for name in files:
                seen = stat_of(handle, name)
                if seen is not None and stat.S_ISREG(seen.st_mode):
                    found[os.path.normpath(os.path.join(path, name))] = seen.st_blocks * 512
            if len(found) > _MOST:
                raise TargetError(f"{folder} has more than {_MOST} files")
    return found


def stat_of(handle: int, name: str) -> os.stat_result | None:
    """What stands there now; None where it is gone since its name was read, as a server's temporary files are."""
    try:
        return os.stat(name, dir_fd=handle, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _device(handle: int, name: str) -> int:
    try:
        return os.stat(name, dir_fd=handle, follow_symlinks=False).st_dev
    except OSError:
        return -1


def same_filesystem(one: Path, other: Path) -> bool:
    """Whether two folders are on the same filesystem, so that moving between them frees nothing."""
    with opened(one) as first, opened(other) as second:
        return os.fstat(first).st_dev == os.fstat(second).st_dev


def tool(name: str) -> str | None:
    """Where a program is, or None."""
    return shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/usr/local/sbin")
