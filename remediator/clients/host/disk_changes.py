"""Change files of this host inside open directories. Their owners may create links and other files there at any time.

Together with `quarantine`, `releases` and `nginx` these are the only functions of clients that change files. All block:
call them in a thread.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from remediator.clients.host.disk import component, opened
from remediator.errors import Refused


@contextmanager
def opened_or_made(folder: Path) -> Iterator[int]:
    """Open a directory; create it and missing directories above, only for this service (mode 0700).

    Raises:
        TargetError: it or a directory above is a link of another user, or is not a directory.
        Refused: it cannot be created or read.
    """
    for missing in reversed([each for each in (folder, *folder.parents) if not os.path.lexists(each)]):
        try:
            with opened(missing.parent, link=True) as parent, suppress(FileExistsError):
                os.mkdir(missing.name, 0o700, dir_fd=parent)
        except OSError as error:
            raise Refused(f"cannot write {folder}: {error.strerror}") from None
    with opened(folder) as handle:
        yield handle


def replace_file(handle: int, name: str, content: bytes, *, mode: int) -> None:
    """Write and fsync a file of an open directory, and put it in the place of an earlier one, or of a link, atomically.

    Raises:
        OSError: it cannot be written; the earlier file stays.
    """
    draft = f".{component(name)}.{secrets.token_hex(4)}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    # create a new file; never open an existing one
    with os.fdopen(os.open(draft, flags, mode, dir_fd=handle), "wb") as file:
        try:
            file.write(content)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
            os.rename(draft, name, src_dir_fd=handle, dst_dir_fd=handle)
        except OSError:
            os.unlink(draft, dir_fd=handle)
            raise
    os.fsync(handle)
