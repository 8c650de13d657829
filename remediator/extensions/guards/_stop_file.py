"""The stop file: a file named ``STOP`` in the state folder. It works when the store and the console do not."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from remediator.core.clock import from_micros
from remediator.core.local_files import open_regular

NAME = "STOP"
_MAX_REASON = 500  # characters


@dataclass(frozen=True, slots=True)
class StopFile:
    """A stop file."""

    path: Path
    reason: str
    """The content of the file, or a note if it is empty or unreadable: the file stops the service in any case."""
    since: datetime


def read_stop_file(folder: Path) -> StopFile | None:
    """Return the stop file of a folder, or None. Anything with that name counts, readable or not."""
    path = folder / NAME
    try:
        since = from_micros(path.lstat().st_mtime_ns // 1000)
    except FileNotFoundError:
        return None
    except OSError as error:
        return StopFile(path, f"cannot look for the file: {error.strerror}", from_micros(0))
    try:
        # do not follow links: a link could show another file of the service as the reason
        with open_regular(path, follow=False) as file:
            reason = " ".join(file.read(_MAX_REASON * 4).decode("utf-8", "replace")[:_MAX_REASON].split())
    except OSError as error:
        reason = f"cannot read the reason: {error.strerror}"
    return StopFile(path, reason or "no reason given", since)
