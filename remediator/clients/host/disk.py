"""Read files of this host without following links or leaving the filesystem.

All operations are relative to open directories (openat), with single names, and reject links. They block: call them in
a thread.

``openat2`` with ``RESOLVE_BENEATH`` would add nothing. A single name that is opened with ``O_NOFOLLOW`` cannot leave
its directory, on every kernel and under every seccomp profile. The path of a directory itself is walked in the same
way. No flag of ``openat2`` distinguishes the links of an administrator from those of another user.
"""

from __future__ import annotations

import errno
import fnmatch
import hashlib
import os
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path

from remediator.core.sizes import MEBIBYTE
from remediator.errors import Refused, TargetError

_MOST = 200_000
"""Maximum number of files to read. A directory with more is not changed."""
_MOST_LINKS = 40
"""Maximum number of links in a path, as in Linux."""
_SETTLED = 60 * 1_000_000_000
"""Nanoseconds after which all earlier writes to a file, also to mapped memory, show in its ctime."""
_MOST_DIGESTS = 10_000
_digests: dict[tuple[int, ...], str] = {}
"""SHA-256 of files by device, inode, size, mtime and ctime, so that a large file that stays the same is read once. No
user can set the ctime."""


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


@dataclass(frozen=True, slots=True)
class Pin:
    """The identity and the content of a file that was approved: only exactly this file is moved or removed.

    In our own quarantine, the content alone counts: a copy on another filesystem has another inode and a rounded time.
    """

    name: str
    size: int
    sha256: str
    changed: int | None = None
    inode: int | None = None


@contextmanager
def opened(folder: Path, *, link: bool = False) -> Iterator[int]:
    """Open a directory.

    Links on the way to it are followed only if root or this service made them. So the owner of a parent directory
    cannot choose another directory.

    Args:
        folder: its path.
        link: the directory itself may be such a link too.

    Raises:
        TargetError: it does not exist, or is not a directory, or it or a directory above is a link of another user.
        Refused: there is no permission to read it.
    """
    try:
        handle = _walked(folder.absolute(), link=link)
    except PermissionError:
        raise Refused(f"no permission to read {folder}") from None
    except OSError as error:
        raise TargetError(f"cannot open the directory {folder}: {error.strerror}") from None
    try:
        yield handle
    finally:
        os.close(handle)


def _walked(folder: Path, *, link: bool) -> int:
    rest, links = list(reversed(folder.parts[1:])), 0
    here = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        while rest:
            name = rest.pop()
            try:
                following = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=here)
            except NotADirectoryError:
                links += 1
                followed = (link or bool(rest)) and links <= _MOST_LINKS
                rest.extend(reversed(_target_of(here, name, followed=followed)))
                following = os.open(".", os.O_PATH | os.O_CLOEXEC, dir_fd=here)
            os.close(here)
            here = following
        return os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=here)
    finally:
        os.close(here)


def _target_of(here: int, name: str, *, followed: bool) -> tuple[str, ...]:
    """Return the components of the path in a link that may be followed.

    Raises:
        OSError: it is not a link, or may not be followed.
    """
    seen = os.stat(name, dir_fd=here, follow_symlinks=False)
    if not stat.S_ISLNK(seen.st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    if not followed:
        raise OSError(errno.ELOOP, "it is a symbolic link")
    if seen.st_uid not in (0, os.geteuid()):
        raise OSError(errno.ELOOP, f"{name} is a symbolic link of user {seen.st_uid}")
    return Path(os.readlink(name, dir_fd=here)).parts


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
    """Check that an open file or directory belongs to this process alone, so no other user can have written it.

    Raises:
        Refused: it belongs to another user, others may write it, or it has another name (a hard link).
    """
    seen = os.fstat(handle)
    if seen.st_uid != os.geteuid():
        raise Refused(f"{name} belongs to user {seen.st_uid}, not to this service; its content is not used")
    if seen.st_mode & 0o022:
        raise Refused(f"others may write {name}; its content is not used: run chmod go-w on it")
    # st_nlink is 0 if this service has replaced the file since it was opened; that is accepted
    if stat.S_ISREG(seen.st_mode) and seen.st_nlink > 1:
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
        return digest(file)


def digest(file: BufferedReader) -> str:
    """Return the SHA-256 of an open file, in hex. An unchanged file is not read twice."""
    key = _identity(file)
    if key in _digests:
        return _digests[key]
    file.seek(0)
    sha256 = hashlib.sha256()
    for piece in iter(lambda: file.read(MEBIBYTE), b""):
        sha256.update(piece)
    found = sha256.hexdigest()
    if key == _identity(file) and time.time_ns() - key[-1] > _SETTLED:
        while len(_digests) >= _MOST_DIGESTS:
            _digests.pop(next(iter(_digests)), None)
        _digests[key] = found
    return found


def _identity(file: BufferedReader) -> tuple[int, ...]:
    seen = os.fstat(file.fileno())
    return seen.st_dev, seen.st_ino, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns


def pinned(handle: int, file: File) -> Pin:
    """Return the pin of a file that was listed in an open directory.

    Raises:
        TargetError: it is missing, or is not a regular file.
    """
    return Pin(file.name, file.size, digest_of(handle, file.name), file.changed, file.inode)


@contextmanager
def opened_pinned(handle: int, pin: Pin) -> Iterator[BufferedReader]:
    """Open exactly the file that was approved.

    Raises:
        TargetError: it is missing, or was replaced or changed.
    """
    with os.fdopen(open_file(handle, pin.name), "rb") as file:
        seen = os.fstat(file.fileno())
        same = (
            seen.st_size == pin.size
            and pin.changed in (None, seen.st_mtime_ns)
            and pin.inode in (None, seen.st_ino)
            and digest(file) == pin.sha256
        )
        if not same:
            raise TargetError(f"{pin.name} was changed after planning; nothing was done to it")
        file.seek(0)
        yield file


def usage(folder: Path) -> Usage:
    """Return the usage of a directory's filesystem."""
    with opened(folder) as handle:
        found = os.fstatvfs(handle)
    blocks = found.f_frsize
    return Usage(found.f_blocks * blocks, (found.f_blocks - found.f_bfree) * blocks, found.f_bavail * blocks)


def listed(folder: Path, pattern: str) -> tuple[File, ...]:
    """Return the regular files whose names match, last changed first. Links and special files are skipped."""
    with opened(folder) as handle:
        return listed_in(handle, pattern)


def listed_in(handle: int, pattern: str) -> tuple[File, ...]:
    found = []
    for name in fnmatch.filter(os.listdir(handle), pattern):
        seen = stat_of(handle, name)
        if seen is not None and stat.S_ISREG(seen.st_mode):
            found.append(File(name, seen.st_size, seen.st_blocks * 512, seen.st_mtime_ns, seen.st_ino))
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
