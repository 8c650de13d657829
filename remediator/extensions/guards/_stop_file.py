"""The stop button as a file: ``STOP`` in the state folder, for when nothing else can be reached."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from remediator.core.clock import from_micros

NAME = "STOP"
_LONGEST = 500  # characters of the reason that are kept


@dataclass(frozen=True, slots=True)
class StopFile:
    """What such a file says."""

    path: Path
    reason: str
    """Its content; a sentence of ours where it is empty or cannot be read: the file alone says stop."""
    since: datetime


def read_stop_file(folder: Path) -> StopFile | None:
    """The file in this folder, None if there is none. Anything of that name says stop, readable or not."""
    path = folder / NAME
    try:
        since = from_micros(path.lstat().st_mtime_ns // 1000)
    except FileNotFoundError:
        return None
    except OSError as error:
        return StopFile(path, f"whether it is there cannot be told: {error.strerror}", from_micros(0))
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            reason = " ".join(file.read(_LONGEST).split())
    except OSError as error:
        reason = f"its reason cannot be read: {error.strerror}"
    return StopFile(path, reason or "no reason is written in it", since)
