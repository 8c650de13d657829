"""Files with secret keys: who may read them, and how they are created."""

from __future__ import annotations

import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path

from remediator.core.local_files import fsync_directory, open_regular
from remediator.errors import ConfigurationError


def read_key_file(path: Path) -> str:
    """Return the text of a file with secret keys.

    Either only its owner may read it (mode 0600 or 0400). Or another user owns it, usually root, and a group of this
    process may read it (mode 0440 or 0640). Kubernetes mounts a Secret like this for a pod with ``fsGroup``.

    Raises:
        ConfigurationError: the file is missing or not text, or other users can read or change it.
    """
    try:
        with open_regular(path) as file:
            found = os.fstat(file.fileno())
            text = file.read().decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise ConfigurationError(f"cannot read the key file '{path}': {reason}") from None
    if not _is_private(found):
        raise ConfigurationError(
            f"other users can read or change the key file '{path}' (mode {stat.S_IMODE(found.st_mode):04o}); "
            f"run 'chmod 600 {path}', or let root own it with mode 0440 and a group of this service"
        )
    return text


def _is_private(found: os.stat_result) -> bool:
    mode = stat.S_IMODE(found.st_mode)
    if not mode & 0o077:
        return True
    ours = found.st_gid in {os.getegid(), *os.getgroups()}
    return not mode & 0o037 and found.st_uid != os.geteuid() and ours


def create_key_file(path: Path, line: str, mode: int = 0o600) -> None:
    """Create a file atomically with one line, unless it exists.

    Two processes that start at the same time get the same file. A crash leaves either a complete file or no file.

    Raises:
        OSError: the folder cannot be written.
    """
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(line + "\n")
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            os.link(draft, path)
    finally:
        draft.unlink()
    fsync_directory(path.parent)
