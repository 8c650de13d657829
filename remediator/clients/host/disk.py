"""Read files of this host without following links or leaving the filesystem.

All operations are relative to open directories (openat), with single names, and reject links. They block: call them in
a thread.
"""

from __future__ import annotations

import fnmatch
import hashlib
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from remediator.errors import Refused, TargetError

_MOST = 200_000
"""Maximum number of files to read. A directory with more is not changed."""
_PIECE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Usage:
    """Usage of a filesystem as an unprivileged user sees it, in bytes."""

    size: int
    used: int
    free: int

    @property
    def percent(self) -> float:
        """Percentage of the usable space, as in ``df``."""
        return 100.0 * self.used / max(self.used + self.free, 1)


@dataclass(frozen=True, slots=True)
class File:
    """A regular file. ``space`` is its size on disk. Sizes are in bytes, ``changed`` in nanoseconds."""

    name: str
    size: int
    space: int
    changed: int
    inode: int


@contextmanager
def opened(folder: Path) -> Iterator[int]:
    """Open a directory, which must not be a link.

    Raises:
        TargetError: it does not exist, or is not a directory, or is a link.
        Refused: there is no permission to read it.
    """
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except PermissionError:
        raise Refused(f"no permission to read {folder}") from None
    except OSError as error:
        raise TargetError(f"cannot open the directory {folder}: {error.strerror}") from None
    try:
        yield handle
    finally:
        os.close(handle)


@contextmanager
def opened_in(handle: int, name: str) -> Iterator[int]:
    """Open a directory inside an open directory, never through a link.

    Raises:
        TargetError: it does not exist, or is not a directory, or is a link.
    """
    try:
        inner = os.open(component(name), os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=handle)
    except OSError as error:
        raise TargetError(f"cannot open the directory {name}: {error.strerror}") from None
    try:
        yield inner
    finally:
        os.close(inner)


def component(name: str) -> str:
    """Return a name that is a single component of a path.

    Raises:
        TargetError: it is not, so that it could leave its directory.
    """
    if not name or name in (".", "..") or "/" in name or "\0" in name:
        raise TargetError(f"{name[:200]!r} is not a single file name")
    return name


def open_file(handle: int, name: str) -> int:
    """Open a regular file in an open directory for reading; never a link, and never a pipe, which would block.

    Raises:
        TargetError: it is missing, or is not a regular file.
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        found = os.open(component(name), flags, dir_fd=handle)
    except OSError as error:
        raise TargetError(f"cannot open {name} any more: {error.strerror}") from None
    if not stat.S_ISREG(os.fstat(found).st_mode):
        os.close(found)
        raise TargetError(f"{name} is not a regular file")
    return found


def require_own(handle: int, name: str) -> None:
    """Check that an open file or directory belongs to this process alone: nobody else can have written it.

    Raises:
        Refused: it belongs to another user, others may write it, or it has another name (a hard link).
    """
    seen = os.fstat(handle)
    if seen.st_uid != os.geteuid():
        raise Refused(f"{name} belongs to user {seen.st_uid}, not to this service; its content is not used")
    if seen.st_mode & 0o022:
        raise Refused(f"others may write {name}; its content is not used: run chmod go-w on it")
    if stat.S_ISREG(seen.st_mode) and seen.st_nlink > 1:  # none: replaced since it was opened, by this service itself
        raise Refused(f"{name} is a hard link; its content is not used")


def read_own(handle: int, name: str) -> bytes:
    """Return the content of a file that this service has written into an open directory.

    Raises:
        TargetError: it is missing, or is not a regular file.
        Refused: others may have written it.
    """
    with os.fdopen(open_file(handle, name), "rb") as file:
        require_own(file.fileno(), name)
        return file.read()


def digest_of(handle: int, name: str) -> str:
    """Return the SHA-256 of a regular file in an open directory, in hex.

    Raises:
        TargetError: it is missing, or is not a regular file.
    """
    with os.fdopen(open_file(handle, name), "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def usage(folder: Path) -> Usage:
    """Return the usage of a directory's filesystem."""
    with opened(folder) as handle:
        found = os.fstatvfs(handle)
    blocks = found.f_frsize
    return Usage(found.f_blocks * blocks, (found.f_blocks - found.f_bfree) * blocks, found.f_bavail * blocks)


def listed(folder: Path, pattern: str) -> tuple[File, ...]:
    """Return the regular files whose names match, last changed first. Links and special files are left out."""
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
    """Return the size on disk of each file below a directory, without links and other filesystems.

    Raises:
        TargetError: there are too many files.
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
    """Return the status of a file, or None if it was removed since its name was read."""
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
    """Return whether two directories are on the same filesystem, so that moving files frees no space."""
    with opened(one) as first, opened(other) as second:
        return os.fstat(first).st_dev == os.fstat(second).st_dev


def tool(name: str) -> str | None:
    """Return the path of a program, or None."""
    return shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/usr/local/sbin")
