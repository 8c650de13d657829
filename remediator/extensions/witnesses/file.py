"""``file``: checkpoints in a file, on another volume, another machine, or with the append-only attribute."""

from __future__ import annotations

import asyncio
import fcntl
import os
import stat
from pathlib import Path

from remediator.audit import checkpoint
from remediator.audit.signed_note import BadNote
from remediator.clients.host import disk
from remediator.core.local_files import open_regular
from remediator.errors import Refused, TargetError
from remediator.extensions.witnesses.base import Witness, WitnessError, is_latest, parse_note

_TAIL = 1 << 16


class FileWitness(Witness):
    """Appends notes to one file, separated by empty lines. It never changes existing content.

    Args:
        path: the file. Its folder must exist, so that an unmounted volume is detected.
    """

    kind = "file"

    def __init__(self, path: Path) -> None:
        self._path = path

    async def publish(self, note: str) -> str:
        """See :meth:`Witness.publish`. An incomplete last note, after a crash or on a full disk, is skipped."""
        parse_note(note)
        try:
            await asyncio.to_thread(self._append, note)
        except OSError as error:
            raise WitnessError(f"cannot write {str(self._path)!r}: {error.strerror}") from error
        except (TargetError, Refused) as error:
            raise WitnessError(f"cannot write {str(self._path)!r}: {error}") from error
        return str(self._path)

    async def fetch(self) -> list[str]:
        """See :meth:`Witness.fetch`."""
        try:
            text = await asyncio.to_thread(self._read)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise WitnessError(f"cannot read {str(self._path)!r}: {error.strerror}") from error
        return list(checkpoint.find_notes(text))

    def _read(self) -> str:
        with open_regular(self._path, follow=False) as file:
            return file.read().decode("utf-8", "replace")

    def _append(self, note: str) -> None:
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        # do not follow links: the owner of the file must not choose another file
        with disk.opened(self._path.parent, link=True) as folder:
            descriptor = os.open(self._path.name, flags, 0o644, dir_fd=folder)
            try:
                if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    raise TargetError("it is not a regular file")
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                size = os.fstat(descriptor).st_size
                tail = os.pread(descriptor, _TAIL, max(0, size - _TAIL)).decode("utf-8", "replace")
                if not is_latest(_complete_notes(tail), note):
                    content = (_gap(tail) + note).encode()
                    while content:
                        content = content[os.write(descriptor, content) :]
                # fsync also if the note exists: a crash may have happened before the fsync
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            os.fsync(folder)


def _complete_notes(tail: str) -> list[str]:
    """Return the complete notes of the tail. Only these can contradict a new note."""
    notes = []
    for note in checkpoint.find_notes(tail):
        try:
            parse_note(note)
        except BadNote:
            continue
        notes.append(note)
    return notes


def _gap(tail: str) -> str:
    if not tail:
        return ""
    return "\n" if tail.endswith("\n") else "\n\n"
