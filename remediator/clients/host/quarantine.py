"""Quarantine: files are moved there in batches before they are deleted.

Every file is complete in one of the two places at any time, even if the process dies. The list of the batch names a
file before it is moved. All functions block, as those of `disk` do.
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

from remediator.clients.host.disk import File, component, listed_in, open_file, opened, read_own, require_own, stat_of
from remediator.core.clock import rfc3339
from remediator.errors import BadAnswer, Refused, TargetError

_PIECE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Moved:
    """A file in quarantine."""

    name: str
    stored: str
    """Name in the quarantine."""
    size: int
    changed: int
    sha256: str
    """Checksum of a copied file; empty if the file was renamed."""


class Quarantine:
    """A quarantine directory. Each batch has a list of its files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def take(
        self, source: Path, files: tuple[File, ...], batch: str, now: datetime, going_on: Callable[[], bool]
    ) -> tuple[Moved, ...]:
        """Move files to the quarantine, each only if it is unchanged since planning.

        Args:
            source: directory of the files.
            files: the files to move.
            batch: name of the batch: letters and digits.
            now: current time.
            going_on: called before each file; False stops, and the list then names the files moved so far.

        Raises:
            TargetError: a file was changed after planning; the files before it are moved.
            Refused: there is no permission to write one of the directories; nothing was moved.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise Refused(f"cannot write {self.folder}: {error.strerror}") from None
        moved: list[Moved] = []
        with opened(source) as origin, self._locked() as here:
            _require_writable(origin, source)
            _require_writable(here, self.folder)
            try:
                for file in files:
                    if not going_on():
                        break
                    stored = f"{batch}-{file.name}"
                    # The list names the file before it is moved: if the process dies here, no file is unaccounted for.
                    pending = Moved(file.name, stored, file.size, file.changed, "")
                    self._note(here, batch, source, [*moved, pending], now)
                    moved.append(_move(origin, file, here, stored))
            finally:
                if moved:
                    self._note(here, batch, source, moved, now)
                else:
                    with suppress(FileNotFoundError):
                        os.unlink(f"{batch}.json", dir_fd=here)
        return tuple(moved)

    @contextmanager
    def _locked(self) -> Iterator[int]:
        """Open and lock the quarantine: a thread whose caller timed out may still be moving its last file."""
        with self._opened() as here:
            fcntl.flock(here, fcntl.LOCK_EX)
            yield here

    @contextmanager
    def _opened(self) -> Iterator[int]:
        """Open the quarantine, and check that it is our own: the owner of the folder around it may have replaced it."""
        with opened(self.folder) as here:
            require_own(here, str(self.folder))
            yield here

    def _note(self, here: int, batch: str, source: Path, moved: list[Moved], now: datetime) -> None:
        note = {"at": rfc3339(now), "from": str(source), "files": [asdict(each) for each in moved]}
        _write(here, f"{batch}.json", json.dumps(note, indent=1).encode())

    def batches(self) -> dict[str, dict[str, Any]]:
        """Return the list of each batch, by its name; empty if there is no quarantine yet."""
        if not self.folder.exists():
            return {}
        with self._opened() as here:
            names = [file.name for file in listed_in(here, "*.json")]
            return {name.removesuffix(".json"): _note_of(here, name) for name in names}

    def sizes(self) -> dict[str, int]:
        """Return the size of each batch in bytes, by its name."""
        notes = self.batches().items()
        return {batch: sum(int(each["size"]) for each in note["files"]) for batch, note in notes}

    def held(self, batch: str) -> dict[str, Any]:
        """Return the list of a batch.

        Raises:
            TargetError: there is no such batch.
        """
        found = self.batches().get(batch)
        if found is None:
            raise TargetError(f"there is no batch {batch!r} in {self.folder}: it was deleted or restored")
        return found

    def restore(self, batch: str, folder: Path, going_on: Callable[[], bool]) -> tuple[str, ...]:
        """Move a batch back to its directory. Existing files are never replaced.

        Args:
            batch: name of the batch.
            folder: original directory of the files.
            going_on: called before each file; False stops, and a later call restores the rest.

        Raises:
            TargetError: there is no such batch, it is from another directory, or a file exists already.
            Refused: there is no permission to write one of the directories.
        """
        restored: list[str] = []
        with self._locked() as here, opened(folder) as target:
            note = self.held(batch)
            if note["from"] != str(folder):
                raise TargetError(f"batch {batch} came from {note['from']}, not from {folder}")
            _require_writable(here, self.folder)
            _require_writable(target, folder)
            for each in _files_of(batch, note):
                if not going_on():
                    return tuple(restored)
                stored, existing = stat_of(here, each.stored), stat_of(target, each.name)
                if stored is None:
                    continue  # restored earlier, or never moved
                if existing is not None:
                    if (stored.st_size, stored.st_mtime_ns) != (existing.st_size, existing.st_mtime_ns):
                        raise TargetError(f"{folder / each.name} exists again, so it is not replaced")
                    os.unlink(each.stored, dir_fd=here)  # an earlier call stopped between copy and removal
                    continue
                file = File(each.stored, stored.st_size, stored.st_blocks * 512, stored.st_mtime_ns, stored.st_ino)
                _move(here, file, target, each.name)
                restored.append(each.name)
            os.unlink(f"{batch}.json", dir_fd=here)
        return tuple(restored)

    def delete(self, batch: str) -> int:
        """Delete a batch permanently. Return the freed bytes."""
        freed = 0
        with self._locked() as here:
            note = self.held(batch)
            for each in _files_of(batch, note):
                if stat_of(here, each.stored) is not None:
                    os.unlink(each.stored, dir_fd=here)
                    freed += each.size
            os.unlink(f"{batch}.json", dir_fd=here)
        return freed


def _require_writable(handle: int, folder: Path) -> None:
    if not os.access(".", os.W_OK | os.X_OK, dir_fd=handle, effective_ids=True):
        raise Refused(f"cannot write {folder}: Permission denied")


def _note_of(here: int, name: str) -> dict[str, Any]:
    try:
        note = json.loads(read_own(here, name))
    except (OSError, ValueError) as error:
        raise BadAnswer(f"cannot read the list {name} of the quarantine: {error}") from None
    return dict(note)


def _files_of(batch: str, note: dict[str, Any]) -> list[Moved]:
    """Return the files of a batch.

    Raises:
        BadAnswer: an entry names a file that the batch cannot have, for example one outside the quarantine.
    """
    files = [Moved(**file) for file in note["files"]]
    for file in files:
        if component(file.stored) != f"{batch}-{component(file.name)}":
            raise BadAnswer(f"the list of batch {batch} names the file {file.stored!r}, which is not of this batch")
    return files


def _move(origin: int, file: File, target: int, name: str) -> Moved:
    """Move exactly this file. At any time, it is complete in one of the two places.

    Within a filesystem the file is renamed, which needs no space: a copy could fill the disk that is to be freed.

    Raises:
        TargetError: the file was changed; it was not moved.
        Refused: it cannot be moved; it was not moved.
    """
    source = open_file(origin, file.name)
    with os.fdopen(source, "rb") as reading:
        seen = os.fstat(source)
        if (seen.st_ino, seen.st_size, seen.st_mtime_ns) != (file.inode, file.size, file.changed):
            raise TargetError(f"{file.name} was changed after planning; it was not moved")
        try:
            digest = "" if _renamed(origin, file, target, name) else _copied(reading, origin, file, target, name)
        except OSError as error:
            raise Refused(f"cannot move {file.name}: {error.strerror}") from None
    return Moved(file.name, name, file.size, file.changed, digest)


def _renamed(origin: int, file: File, target: int, name: str) -> bool:
    """Rename the file. Return False if it is on another filesystem."""
    try:
        os.rename(file.name, name, src_dir_fd=origin, dst_dir_fd=target)
    except OSError as error:
        if error.errno == errno.EXDEV:
            return False
        raise
    if os.stat(name, dir_fd=target, follow_symlinks=False).st_ino != file.inode:
        os.rename(name, file.name, src_dir_fd=target, dst_dir_fd=origin)
        raise TargetError(f"{file.name} was replaced during the move; it was not moved")
    os.fsync(target)
    os.fsync(origin)
    return True


def _copied(reading: Any, origin: int, file: File, target: int, name: str) -> str:
    """Copy and fsync the file, check that it was not replaced, then unlink it. Return the checksum of the copy."""
    disk = os.fstatvfs(target)
    if disk.f_bavail * disk.f_frsize < file.size:
        raise Refused(f"cannot copy {file.name}: {file.size} bytes needed, {disk.f_bavail * disk.f_frsize} bytes free")
    digest = _copy(reading, target, name)
    try:
        if os.stat(file.name, dir_fd=origin, follow_symlinks=False).st_ino != file.inode:
            raise TargetError(f"{file.name} was replaced during the copy; it was not moved")
        os.unlink(file.name, dir_fd=origin)
    except (OSError, TargetError):
        os.unlink(name, dir_fd=target)
        raise
    return digest


def _copy(reading: Any, target: int, name: str) -> str:
    """Copy to a temporary name, then rename. Times and, if permitted, owner and mode are kept."""
    draft, digest, seen = f".{name}.part", hashlib.sha256(), os.fstat(reading.fileno())
    with suppress(FileNotFoundError):
        os.unlink(draft, dir_fd=target)  # of a process that died
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600, dir_fd=target)
    try:
        with os.fdopen(handle, "wb") as writing:
            while piece := reading.read(_PIECE):
                digest.update(piece)
                writing.write(piece)
            writing.flush()
            _copy_attributes(handle, seen)
            os.fsync(handle)
        os.rename(draft, name, src_dir_fd=target, dst_dir_fd=target)
        os.fsync(target)
    except OSError:
        os.unlink(draft, dir_fd=target)
        raise
    return digest.hexdigest()


def _copy_attributes(handle: int, seen: os.stat_result) -> None:
    """Copy owner, mode and times, so that a restored file has the same readers. Only root can set another owner."""
    for user, group in ((seen.st_uid, seen.st_gid), (-1, seen.st_gid)):
        try:
            os.fchown(handle, user, group)
            break
        except PermissionError:
            continue
    os.fchmod(handle, stat.S_IMODE(seen.st_mode) & 0o777)
    os.utime(handle, ns=(seen.st_mtime_ns, seen.st_mtime_ns))


def _write(target: int, name: str, content: bytes) -> None:
    with suppress(FileNotFoundError):
        os.unlink(f".{name}.part", dir_fd=target)  # of a process that died
    handle = os.open(f".{name}.part", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600, dir_fd=target)
    with os.fdopen(handle, "wb") as writing:
        writing.write(content)
        writing.flush()
        os.fsync(handle)
    os.rename(f".{name}.part", name, src_dir_fd=target, dst_dir_fd=target)
