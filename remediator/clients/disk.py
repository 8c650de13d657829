"""Files of this host, looked at and moved without ever following a link or leaving the filesystem that is meant.

Everything is done relative to open folders (openat), names are single, and each step refuses links. All of it blocks:
call it in a thread.
"""

from __future__ import annotations

import fcntl
import fnmatch
import hashlib
import json
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from remediator.clock import rfc3339
from remediator.errors import BadAnswer, Refused, TargetError

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


@dataclass(frozen=True, slots=True)
class Moved:
    """A file in quarantine."""

    name: str
    stored: str
    """Its name there."""
    size: int
    changed: int
    sha256: str


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
        return _listed(handle, pattern)


def _listed(handle: int, pattern: str) -> tuple[File, ...]:
    found = []
    with os.scandir(handle) as entries:
        for entry in entries:
            if fnmatch.fnmatchcase(entry.name, pattern) and entry.is_file(follow_symlinks=False):
                seen = entry.stat(follow_symlinks=False)
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
                seen = os.stat(name, dir_fd=handle, follow_symlinks=False)
                if stat.S_ISREG(seen.st_mode):
                    found[os.path.normpath(os.path.join(path, name))] = seen.st_blocks * 512
            if len(found) > _MOST:
                raise TargetError(f"{folder} has more than {_MOST} files")
    return found


def _device(handle: int, name: str) -> int:
    try:
        return os.stat(name, dir_fd=handle, follow_symlinks=False).st_dev
    except OSError:
        return -1


def same_filesystem(one: Path, other: Path) -> bool:
    """Whether two folders are on the same filesystem, so that moving between them frees nothing."""
    with opened(one) as first, opened(other) as second:
        return os.fstat(first).st_dev == os.fstat(second).st_dev


class Quarantine:
    """A folder that files are moved to before they are deleted. Each batch has a list of what is in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def take(
        self, source: Path, files: tuple[File, ...], batch: str, now: datetime, going_on: Callable[[], bool]
    ) -> tuple[Moved, ...]:
        """Move files in, each only if it still is the very file that was planned.

        Args:
            source: the folder that they are in.
            files: which.
            batch: name of the batch: letters and digits.
            now: when it is.
            going_on: asked before each file; False ends it, with what was moved until then written down.

        Raises:
            TargetError: a file is not what was planned; those before it are moved.
            Refused: one of the folders may not be written; nothing was moved.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise Refused(f"{self.folder} cannot be written: {error.strerror}") from None
        moved: list[Moved] = []
        with opened(source) as origin, self._alone() as here:
            _require_writable(origin, source)
            _require_writable(here, self.folder)
            for file in files:
                if not going_on():
                    break
                moved.append(_move(origin, file, here, f"{batch}-{file.name}"))
                self._note(here, batch, source, moved, now)
        return tuple(moved)

    @contextmanager
    def _alone(self) -> Iterator[int]:
        """Its folder, for one at a time: what was cut off in time may still be at its last file."""
        with opened(self.folder) as here:
            fcntl.flock(here, fcntl.LOCK_EX)
            yield here

    def _note(self, here: int, batch: str, source: Path, moved: list[Moved], now: datetime) -> None:
        note = {"at": rfc3339(now), "from": str(source), "files": [asdict(each) for each in moved]}
        _write(here, f"{batch}.json", json.dumps(note, indent=1).encode())

    def batches(self) -> dict[str, dict[str, Any]]:
        """Name of a batch → what is written of it; empty where there is no quarantine yet."""
        if not self.folder.exists():
            return {}
        with opened(self.folder) as here:
            names = [file.name for file in _listed(here, "*.json")]
            return {name.removesuffix(".json"): _note_of(here, name) for name in names}

    def held(self, batch: str) -> dict[str, Any]:
        """What is written of a batch.

        Raises:
            TargetError: there is none of this name.
        """
        found = self.batches().get(batch)
        if found is None:
            raise TargetError(f"there is no batch {batch!r} in {self.folder}; it was deleted, or put back")
        return found

    def put_back(self, batch: str, folder: Path, going_on: Callable[[], bool]) -> tuple[str, ...]:
        """Move a batch to where it was. What stands there by now is not replaced.

        Args:
            batch: its name.
            folder: where it came from.
            going_on: asked before each file; False ends it, and the rest is put back another time.

        Raises:
            TargetError: there is no such batch, or it is from elsewhere, or a name is taken.
            Refused: one of the folders may not be written.
        """
        put: list[str] = []
        with self._alone() as here, opened(folder) as target:
            note = self.held(batch)
            if note["from"] != str(folder):
                raise TargetError(f"batch {batch} came from {note['from']}, not from {folder}")
            _require_writable(here, self.folder)
            _require_writable(target, folder)
            for each in (Moved(**file) for file in note["files"]):
                if not going_on():
                    return tuple(put)
                if _exists(target, each.name) and not _exists(here, each.stored):
                    continue  # put back before
                if _exists(target, each.name):
                    raise TargetError(f"{folder / each.name} is there again; it is not replaced")
                _move(here, _found(here, each.stored), target, each.name)
                put.append(each.name)
            os.unlink(f"{batch}.json", dir_fd=here)
        return tuple(put)

    def delete(self, batch: str) -> int:
        """Delete a batch for good; the bytes that were freed."""
        freed = 0
        with self._alone() as here:
            note = self.held(batch)
            for each in (Moved(**file) for file in note["files"]):
                if _exists(here, each.stored):
                    os.unlink(each.stored, dir_fd=here)
                    freed += each.size
            os.unlink(f"{batch}.json", dir_fd=here)
        return freed


def _require_writable(handle: int, folder: Path) -> None:
    if not os.access(".", os.W_OK | os.X_OK, dir_fd=handle, effective_ids=True):
        raise Refused(f"{folder} cannot be written: Permission denied")


def _note_of(here: int, name: str) -> dict[str, Any]:
    try:
        with os.fdopen(os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=here), "rb") as file:
            note = json.loads(file.read())
    except (OSError, ValueError) as error:
        raise BadAnswer(f"the list {name} of the quarantine cannot be read: {error}") from None
    return dict(note)


def _exists(handle: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=handle, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _found(handle: int, name: str) -> File:
    seen = os.stat(name, dir_fd=handle, follow_symlinks=False)
    return File(name, seen.st_size, seen.st_blocks * 512, seen.st_mtime_ns, seen.st_ino)


def _move(origin: int, file: File, target: int, name: str) -> Moved:
    """Copy, sync, compare, then unlink: whatever happens in between, the file is whole in one of the two places."""
    try:
        source = os.open(file.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=origin)
    except OSError as error:
        raise TargetError(f"{file.name} cannot be opened any more: {error.strerror}") from None
    with os.fdopen(source, "rb") as reading:
        seen = os.fstat(source)
        if (seen.st_ino, seen.st_size, seen.st_mtime_ns) != (file.inode, file.size, file.changed):
            raise TargetError(f"{file.name} was changed since the plan was made; it stays")
        digest = _copy(reading, target, name)
        os.utime(name, ns=(file.changed, file.changed), dir_fd=target, follow_symlinks=False)
        if os.stat(file.name, dir_fd=origin, follow_symlinks=False).st_ino != file.inode:
            raise TargetError(f"{file.name} was replaced while it was copied; it stays")
        os.unlink(file.name, dir_fd=origin)
    return Moved(file.name, name, file.size, file.changed, digest)


def _copy(reading: Any, target: int, name: str) -> str:
    draft, digest = f".{name}.part", hashlib.sha256()
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600, dir_fd=target)
    try:
        with os.fdopen(handle, "wb") as writing:
            while piece := reading.read(_PIECE):
                digest.update(piece)
                writing.write(piece)
            writing.flush()
            os.fsync(handle)
        os.rename(draft, name, src_dir_fd=target, dst_dir_fd=target)
        os.fsync(target)
    except OSError as error:
        os.unlink(draft, dir_fd=target)
        raise Refused(f"{name} cannot be copied: {error.strerror}") from None
    return digest.hexdigest()


def _write(target: int, name: str, content: bytes) -> None:
    handle = os.open(f".{name}.part", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600, dir_fd=target)
    with os.fdopen(handle, "wb") as writing:
        writing.write(content)
        writing.flush()
        os.fsync(handle)
    os.rename(f".{name}.part", name, src_dir_fd=target, dst_dir_fd=target)


def tool(name: str) -> str | None:
    """Where a program is, or None."""
    return shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/usr/local/sbin")
