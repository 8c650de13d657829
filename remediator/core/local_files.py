"""Read and replace files of this host: regular files only, and files of the service only if no other user can have
created them.

All files that settings name, and all files of the state folder, are opened by these functions.
"""

from __future__ import annotations

import errno
import io
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BufferedReader, BufferedWriter
from pathlib import Path

from remediator.errors import ConfigurationError


def open_regular(path: Path, *, follow: bool = True) -> BufferedReader:
    """Open a regular file for reading, without waiting.

    A named pipe would hold up the service until another process writes into it, and a device may have no end.

    Args:
        path: the file.
        follow: open the target of a link. Kubernetes mounts secrets as links, and administrators use them.

    Raises:
        OSError: it is missing, cannot be read, is not a regular file, or is a link that must not be followed.
    """
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
    descriptor = os.open(path, flags)
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    raise OSError(errno.EINVAL, "it is not a regular file", str(path))


def read_text(path: Path, *, follow: bool = True) -> str:
    """Return the text of a regular file; see :func:`open_regular`.

    Raises:
        OSError: as :func:`open_regular`.
        UnicodeDecodeError: it is not UTF-8.
    """
    with io.TextIOWrapper(open_regular(path, follow=follow), encoding="utf-8") as file:
        return file.read()


@contextmanager
def replacing(path: Path) -> Iterator[BufferedWriter]:
    """Open a new file that replaces ``path``, durably, when the block has succeeded.

    No process ever reads an incomplete file, and after an error the old file is unchanged. It keeps the old file's
    permissions.

    Raises:
        OSError: the folder cannot be written.
    """
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    file = draft.open("xb")
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            draft.chmod(path.stat().st_mode & 0o7777)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    fsync_directory(path.parent)


def fsync_directory(folder: Path) -> None:
    """Make the file names in a directory durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def own_file(folder: Path, name: str) -> Path:
    """Return the path of a file that the service keeps in its state folder. The file may not exist yet.

    Another user must not choose which file the service reads or overwrites, nor with which key it signs.

    Raises:
        ConfigurationError: the file is a link or not a regular file, or another user owns it or the folder.
    """
    return _own(folder, name, stat.S_ISREG, "a regular file")


def own_folder(folder: Path, name: str) -> Path:
    """Return the path of a folder that the service keeps in its state folder; see :func:`own_file`.

    Raises:
        ConfigurationError: as :func:`own_file`.
    """
    return _own(folder, name, stat.S_ISDIR, "a folder")


def _own(folder: Path, name: str, is_expected: Callable[[int], bool], expected: str) -> Path:
    path, me = folder / name, os.geteuid()
    try:
        owner = folder.stat().st_uid
        if me != 0 and owner not in (0, me):  # root acts for the owner of the folder, for example by sudo
            raise ConfigurationError(
                f"the state folder '{folder}' belongs to user {owner}, who can replace its files; give it to the user "
                f"of the service: chown {me} {folder}"
            )
        seen = path.lstat()
    except OSError:  # the file is missing, or the code that opens it reports the error
        return path
    if stat.S_ISLNK(seen.st_mode):
        raise ConfigurationError(
            f"'{path}' is a symbolic link, and the service follows no link in its state folder; "
            "replace it by its target, or set 'state' to another folder"
        )
    if not is_expected(seen.st_mode):
        raise ConfigurationError(f"'{path}' is not {expected}; remove it, or set 'state' to another folder")
    if seen.st_uid not in (0, me, owner):
        raise ConfigurationError(
            f"'{path}' belongs to user {seen.st_uid}, not to the service, so it is not used; remove it, or restore "
            "your own file from a backup"
        )
    return path
