"""Quarantine: where files are moved to before they are deleted, in batches that say what is in them.

A file is in one of the two places whatever ends us, and its batch names it before it is moved. All of it blocks, as
`disk` does.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from remediator.clients.host.disk import File, listed_in, opened, stat_of
from remediator.core.clock import rfc3339
from remediator.errors import BadAnswer, Refused, TargetError

_PIECE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Moved:
    """A file in quarantine."""

    name: str
    stored: str
    """Its name there."""
    size: int
    changed: int
    sha256: str
    """Of what was copied; empty where the file itself was moved."""


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
            try:
                for file in files:
                    if not going_on():
                        break
                    stored = f"{batch}-{file.name}"
                    # noted before it is moved: whatever ends us in between, no file is here that nobody knows of
                    pending = Moved(file.name, stored, file.size, file.changed, "")
                    self._note(here, batch, source, [*moved, pending], now)
                    moved.append(_move(origin, file, here, stored))
            finally:
                if moved:
                    self._note(here, batch, source, moved, now)
                else:
                    _remove(here, f"{batch}.json")
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
            names = [file.name for file in listed_in(here, "*.json")]
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
                stored, standing = stat_of(here, each.stored), stat_of(target, each.name)
                if stored is None:
                    continue  # put back before, or never moved
                if standing is not None and not _alike(stored, standing):
                    raise TargetError(f"{folder / each.name} is there again; it is not replaced")
                if standing is not None:  # cut off between copying and removing
                    os.unlink(each.stored, dir_fd=here)
                    continue
                _move(here, _found(each.stored, stored), target, each.name)
                put.append(each.name)
            os.unlink(f"{batch}.json", dir_fd=here)
        return tuple(put)

    def delete(self, batch: str) -> int:
        """Delete a batch for good; the bytes that were freed."""
        freed = 0
        with self._alone() as here:
            note = self.held(batch)
            for each in (Moved(**file) for file in note["files"]):
                if stat_of(here, each.stored) is not None:
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


def _found(name: str, seen: os.stat_result) -> File:
    return File(name, seen.st_size, seen.st_blocks * 512, seen.st_mtime_ns, seen.st_ino)


def _alike(one: os.stat_result, other: os.stat_result) -> bool:
    return (one.st_size, one.st_mtime_ns) == (other.st_size, other.st_mtime_ns)


def _move(origin: int, file: File, target: int, name: str) -> Moved:
    """Move the very file that is meant; whatever happens in between, it is whole in one of the two places.

    Within a filesystem its name is moved, which takes no room: a copy might fill the disk that is to be emptied.

    Raises:
        TargetError: it is not the file that is meant any more; it stays.
        Refused: it cannot be moved; it stays.
    """
    try:
        source = os.open(file.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=origin)
    except OSError as error:
        raise TargetError(f"{file.name} cannot be opened any more: {error.strerror}") from None
    with os.fdopen(source, "rb") as reading:
        seen = os.fstat(source)
        if (seen.st_ino, seen.st_size, seen.st_mtime_ns) != (file.inode, file.size, file.changed):
            raise TargetError(f"{file.name} was changed since the plan was made; it stays")
        try:
            digest = "" if _renamed(origin, file, target, name) else _copied(reading, origin, file, target, name)
        except OSError as error:
            raise Refused(f"{file.name} cannot be moved: {error.strerror}") from None
    return Moved(file.name, name, file.size, file.changed, digest)


def _renamed(origin: int, file: File, target: int, name: str) -> bool:
    """Whether it could be moved by its name alone."""
    try:
        os.rename(file.name, name, src_dir_fd=origin, dst_dir_fd=target)
    except OSError as error:
        if error.errno == errno.EXDEV:
            return False
        raise
    if os.stat(name, dir_fd=target, follow_symlinks=False).st_ino != file.inode:
        os.rename(name, file.name, src_dir_fd=target, dst_dir_fd=origin)
        raise TargetError(f"{file.name} was replaced while it was moved; it stays")
    os.fsync(target)
    os.fsync(origin)
    return True


def _copied(reading: Any, origin: int, file: File, target: int, name: str) -> str:
    """Copy, sync, compare, then unlink; the digest of what was copied."""
    disk = os.fstatvfs(target)
    if disk.f_bavail * disk.f_frsize < file.size:
        raise Refused(f"{file.name} cannot be copied: there are {disk.f_bavail * disk.f_frsize} bytes for {file.size}")
    digest = _copy(reading, target, name)
    try:
        if os.stat(file.name, dir_fd=origin, follow_symlinks=False).st_ino != file.inode:
            raise TargetError(f"{file.name} was replaced while it was copied; it stays")
        os.unlink(file.name, dir_fd=origin)
    except (OSError, TargetError):
        os.unlink(name, dir_fd=target)
        raise
    return digest


def _copy(reading: Any, target: int, name: str) -> str:
    """Under a name of its own until it is whole, with the times and, as far as we may, the rights of the first."""
    draft, digest, seen = f".{name}.part", hashlib.sha256(), os.fstat(reading.fileno())
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600, dir_fd=target)
    try:
        with os.fdopen(handle, "wb") as writing:
            while piece := reading.read(_PIECE):
                digest.update(piece)
                writing.write(piece)
            writing.flush()
            _as_it_was(handle, seen)
            os.fsync(handle)
        os.rename(draft, name, src_dir_fd=target, dst_dir_fd=target)
        os.fsync(target)
    except OSError:
        os.unlink(draft, dir_fd=target)
        raise
    return digest.hexdigest()


def _as_it_was(handle: int, seen: os.stat_result) -> None:
    """Whoever could read it can read it again when it is back; another owner only root can give."""
    for user, group in ((seen.st_uid, seen.st_gid), (-1, seen.st_gid)):
        try:
            os.fchown(handle, user, group)
            break
        except PermissionError:
            continue
    os.fchmod(handle, stat.S_IMODE(seen.st_mode) & 0o777)
    os.utime(handle, ns=(seen.st_mtime_ns, seen.st_mtime_ns))


def _write(target: int, name: str, content: bytes) -> None:
    handle = os.open(f".{name}.part", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600, dir_fd=target)
    with os.fdopen(handle, "wb") as writing:
        writing.write(content)
        writing.flush()
        os.fsync(handle)
    os.rename(f".{name}.part", name, src_dir_fd=target, dst_dir_fd=target)


def _remove(handle: int, name: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(name, dir_fd=handle)
