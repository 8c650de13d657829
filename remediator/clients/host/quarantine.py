"""Quarantine: files are moved there in batches before they are deleted.

Every file is complete in one of the two places at any time, even if the process dies. The list of the batch names a
file before it is moved. All functions block, like the functions of `disk`.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any

from remediator.clients.host.disk import (
    Pin,
    component,
    digest_of,
    listed_in,
    opened,
    opened_pinned,
    read_own,
    require_own,
    stat_of,
)
from remediator.clients.host.disk_changes import opened_or_made, replace_file
from remediator.core.sizes import MEBIBYTE, format_size
from remediator.errors import BadAnswer, Refused, TargetError

_PIECE = MEBIBYTE


@dataclass(frozen=True, slots=True)
class Moved:
    """A file in quarantine."""

    name: str
    stored: str
    """Name in the quarantine."""
    size: int
    sha256: str

    @property
    def pin(self) -> Pin:
        """The content that must still be in the quarantine."""
        return Pin(self.stored, self.size, self.sha256)


class Quarantine:
    """A quarantine directory. Each batch has a list of its files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def take(
        self, source: Path, files: tuple[Pin, ...], batch: str, at: str, going_on: Callable[[], bool]
    ) -> tuple[Moved, ...]:
        """Move files to the quarantine, each only if it is unchanged since planning.

        Args:
            source: directory of the files.
            files: the approved files to move.
            batch: name of the batch: letters and digits.
            at: current time (RFC 3339).
            going_on: called before each file; False stops, and the list then names the files moved so far.

        Raises:
            TargetError: a file was changed after planning; the files before it are moved.
            Refused: there is no permission to write one of the directories; nothing was moved.
        """
        moved: list[Moved] = []
        with opened(source) as origin, self._locked(create=True) as here:
            _require_writable(origin, source)
            _require_writable(here, self.folder)
            try:
                for file in files:
                    if not going_on():
                        break
                    stored = f"{batch}-{file.name}"
                    # The list names the file before it is moved: if the process dies here, no file is unaccounted for.
                    pending = Moved(file.name, stored, file.size, file.sha256)
                    self._note(here, batch, source, [*moved, pending], at)
                    _move(origin, file, here, stored)
                    moved.append(pending)
            finally:
                if moved:
                    self._note(here, batch, source, moved, at)
                else:
                    with suppress(FileNotFoundError):
                        os.unlink(f"{batch}.json", dir_fd=here)
        return tuple(moved)

    @contextmanager
    def _locked(self, *, create: bool = False) -> Iterator[int]:
        """Open and lock the quarantine: a thread whose caller timed out may still be moving its last file."""
        with self._opened(create=create) as here:
            fcntl.flock(here, fcntl.LOCK_EX)
            yield here

    @contextmanager
    def _opened(self, *, create: bool = False) -> Iterator[int]:
        """Open the quarantine, and check that it is our own: the owner of the folder around it may have replaced it."""
        opening = opened_or_made if create else opened
        with opening(self.folder) as here:
            require_own(here, str(self.folder))
            yield here

    def _note(self, here: int, batch: str, source: Path, moved: list[Moved], at: str) -> None:
        note = {"at": at, "from": str(source), "files": [asdict(each) for each in moved]}
        replace_file(here, f"{batch}.json", json.dumps(note, indent=1).encode(), mode=0o600)

    def batches(self) -> dict[str, dict[str, Any]]:
        """Return the list of each batch, by its name; empty if there is no quarantine yet."""
        if not self.folder.exists():
            return {}
        with self._opened() as here:
            found = {}
            for file in listed_in(here, "*.json"):
                try:
                    note = json.loads(read_own(here, file.name))
                except (OSError, ValueError, RecursionError) as error:
                    raise BadAnswer(f"cannot read the list {file.name} of the quarantine: {error}") from None
                found[file.name.removesuffix(".json")] = dict(note)
            return found

    def held(self, batch: str) -> dict[str, Any]:
        """Return the list of a batch.

        Raises:
            TargetError: there is no such batch.
        """
        found = self.batches().get(batch)
        if found is None:
            raise TargetError(f"there is no batch {batch!r} in {self.folder}: it was deleted or restored")
        return found

    def restore(self, batch: str, sha256: str, folder: Path, going_on: Callable[[], bool]) -> tuple[str, ...]:
        """Move a batch back to its directory. Existing files are never replaced.

        Args:
            batch: name of the batch.
            sha256: approved checksum of its list.
            folder: original directory of the files.
            going_on: called before each file; False stops, and a later call restores the rest.

        Raises:
            TargetError: there is no such batch, it is from another directory or was changed, or a file exists already.
            Refused: there is no permission to write one of the directories.
        """
        restored: list[str] = []
        with self._locked() as here, opened(folder) as target:
            note = self._approved(batch, sha256)
            if note["from"] != str(folder):
                raise TargetError(f"batch {batch} came from {note['from']}, not from {folder}")
            _require_writable(here, self.folder)
            _require_writable(target, folder)
            for each in _files_of(batch, note):
                if not going_on():
                    return tuple(restored)
                stored, existing = stat_of(here, each.stored), stat_of(target, each.name)
                if stored is None:
                    continue  # the file was restored earlier, or never moved
                if existing is not None:
                    if existing.st_size != each.size or digest_of(target, each.name) != each.sha256:
                        raise TargetError(f"{folder / each.name} exists again, so it is not replaced")
                    os.unlink(each.stored, dir_fd=here)  # an earlier call stopped between copy and removal
                    continue
                _move(here, each.pin, target, each.name)
                restored.append(each.name)
            os.unlink(f"{batch}.json", dir_fd=here)
        return tuple(restored)

    def delete(self, batch: str, sha256: str, going_on: Callable[[], bool]) -> int:
        """Delete a batch permanently. Return the freed bytes.

        Args:
            batch: name of the batch.
            sha256: approved checksum of its list.
            going_on: called before each file; False stops, and a later call deletes the rest.

        Raises:
            TargetError: there is no such batch, or it or one of its files was changed; that file is not deleted.
        """
        freed = 0
        with self._locked() as here:
            for each in _files_of(batch, self._approved(batch, sha256)):
                if not going_on():
                    return freed
                if stat_of(here, each.stored) is not None:
                    with opened_pinned(here, each.pin):
                        os.unlink(each.stored, dir_fd=here)
                    freed += each.size
            os.unlink(f"{batch}.json", dir_fd=here)
        return freed

    def _approved(self, batch: str, sha256: str) -> dict[str, Any]:
        note = self.held(batch)
        if digest_of_note(note) != sha256:
            raise TargetError(f"batch {batch} in {self.folder} was changed after planning; nothing was changed")
        return note


def digest_of_note(note: Mapping[str, Any]) -> str:
    """Return the SHA-256 of the list of a batch: of the names, sizes and checksums of its files."""
    return hashlib.sha256(json.dumps(note, sort_keys=True).encode()).hexdigest()


def _require_writable(handle: int, folder: Path) -> None:
    if not os.access(".", os.W_OK | os.X_OK, dir_fd=handle, effective_ids=True):
        raise Refused(f"cannot write {folder}: Permission denied")


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


def _move(origin: int, file: Pin, target: int, name: str) -> None:
    """Move exactly this file. At any time, it is complete in one of the two places.

    Within a filesystem the file is renamed, which needs no space: a copy could fill the disk that is to be freed.

    Raises:
        TargetError: the file was changed; it was not moved.
        Refused: it cannot be moved; it was not moved.
    """
    with opened_pinned(origin, file) as reading:
        try:
            if not _renamed(reading, origin, file, target, name):
                _copied(reading, origin, file, target, name)
        except OSError as error:
            raise Refused(f"cannot move {file.name}: {error.strerror}") from None


def _renamed(reading: BufferedReader, origin: int, file: Pin, target: int, name: str) -> bool:
    """Rename the file. Return False if it is on another filesystem."""
    try:
        os.rename(file.name, name, src_dir_fd=origin, dst_dir_fd=target)
    except OSError as error:
        if error.errno == errno.EXDEV:
            return False
        raise
    if not _is(reading, target, name):
        os.rename(name, file.name, src_dir_fd=target, dst_dir_fd=origin)
        raise TargetError(f"{file.name} was replaced during the move; it was not moved")
    os.fsync(target)
    os.fsync(origin)
    return True


def _is(opened_file: BufferedReader, handle: int, name: str) -> bool:
    """Return whether a name is still the name of the open file."""
    return os.path.samestat(os.stat(name, dir_fd=handle, follow_symlinks=False), os.fstat(opened_file.fileno()))


def _copied(reading: BufferedReader, origin: int, file: Pin, target: int, name: str) -> None:
    """Copy and fsync the file, check the content and that it was not replaced, then unlink it."""
    disk = os.fstatvfs(target)
    free = disk.f_bavail * disk.f_frsize
    if free < file.size:
        raise Refused(f"cannot copy {file.name}: {format_size(file.size)} needed, {format_size(free)} free")
    digest = _copy(reading, target, name)
    try:
        if digest != file.sha256 or not _is(reading, origin, file.name):
            raise TargetError(f"{file.name} was replaced or changed during the copy; it was not moved")
        os.unlink(file.name, dir_fd=origin)
    except (OSError, TargetError):
        os.unlink(name, dir_fd=target)
        raise


def _copy(reading: BufferedReader, target: int, name: str) -> str:
    """Copy to a temporary name, then rename. Times and, if permitted, owner and mode are kept."""
    draft, digest, seen = f".{name}.part", hashlib.sha256(), os.fstat(reading.fileno())
    with suppress(FileNotFoundError):
        os.unlink(draft, dir_fd=target)  # the draft of a process that died
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600, dir_fd=target)
    try:
        with os.fdopen(handle, "wb") as writing:
            for piece in iter(lambda: reading.read(_PIECE), b""):
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
