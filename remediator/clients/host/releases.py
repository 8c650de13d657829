"""Releases as folders: one folder for each, and a link that names the one in use.

What was rolled back is written down beside the folders, so that rolling back twice never puts a bad release back.
"""

from __future__ import annotations

import json
import os
import secrets
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from remediator.core.clock import rfc3339
from remediator.errors import Refused, TargetError

RECORD = ".rolled-back.json"
"""In the folder of releases: name of a release → when it was rolled back."""


@dataclass(frozen=True, slots=True)
class Folder:
    """One release; ``at`` is when it was put in force if it is the current one, else when its folder was made."""

    name: str
    at: datetime
    current: bool
    undone: bool


@dataclass(frozen=True, slots=True)
class ReleaseFolders:
    """The releases of one service."""

    releases: Path
    link: Path

    def all(self) -> tuple[Folder, ...]:
        """Every release, the newest first; the current one stands where its making puts it.

        Raises:
            TargetError: a folder or the link is not there, or the link leads elsewhere.
        """
        current, undone = self.current(), self._undone()
        made = []
        for entry in self._entries():
            at = self._switched() if entry.name == current else _instant(entry.stat(follow_symlinks=False).st_mtime)
            made.append((entry.stat(follow_symlinks=False).st_mtime_ns, entry.name, at))
        made.sort(reverse=True)
        return tuple(Folder(name, at, name == current, name in undone) for _, name, at in made)

    def _entries(self) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(self.releases) as found:
                return [entry for entry in found if entry.is_dir(follow_symlinks=False) and entry.name[0] != "."]
        except OSError as error:
            raise TargetError(f"the releases in {self.releases} cannot be listed: {error.strerror}") from None

    def current(self) -> str:
        """The name of the release that the link names.

        Raises:
            TargetError: there is no link, or it leads out of the folder of releases.
        """
        try:
            target = Path(os.path.normpath(self.link.parent / self.link.readlink()))
        except OSError as error:
            raise TargetError(f"{self.link} does not say which release is in use: {error.strerror}") from None
        if target.parent != Path(os.path.normpath(self.releases)) or not target.is_dir() or target.is_symlink():
            raise TargetError(f"{self.link} leads to {target}, which is not a release in {self.releases}")
        return target.name

    def _switched(self) -> datetime:
        return _instant(self.link.lstat().st_mtime)

    def _undone(self) -> dict[str, str]:
        try:
            found = json.loads((self.releases / RECORD).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise TargetError(f"{self.releases / RECORD} cannot be read: {error}") from None
        return dict(found) if isinstance(found, dict) else {}

    def switch(self, to: str, *, expected: str, now: datetime) -> None:
        """Let the link name another release, at once, and write down that the one before was rolled back.

        Raises:
            TargetError: the link is not as planned, or there is no such release.
            Refused: it may not be written here.
        """
        found = self.current()
        if found != expected:
            raise TargetError(f"{self.link} names {found} now, not {expected} as planned: somebody was faster")
        if to not in {folder.name for folder in self.all()}:
            raise TargetError(f"there is no release {to!r} in {self.releases}")
        try:
            _replace(self.releases / RECORD, json.dumps(self._undone() | {expected: rfc3339(now)}, indent=1))
            self._point(to)
        except OSError as error:
            raise Refused(f"{self.link} cannot be switched: {error.strerror}") from None

    def _point(self, to: str) -> None:
        draft = self.link.with_name(f".{self.link.name}.{secrets.token_hex(4)}")
        draft.symlink_to(os.path.relpath(self.releases / to, self.link.parent))
        try:
            draft.replace(self.link)
        except OSError:
            with suppress(OSError):
                draft.unlink()
            raise
        _sync(self.link.parent)


def _replace(path: Path, text: str) -> None:
    draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)
    _sync(path.parent)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _instant(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
