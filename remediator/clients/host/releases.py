"""Releases as directories, with a symbolic link to the current release.

Rolled-back releases are recorded beside the directories, so that a second rollback never returns to a bad release.
"""

from __future__ import annotations

import json
import os
import pwd
import secrets
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from remediator.clients.host import disk
from remediator.clients.host.disk_changes import replace_file
from remediator.core import untrusted_json
from remediator.core.clock import rfc3339
from remediator.errors import Refused, TargetError

RECORD = ".rolled-back.json"
"""File in the directory of releases: name of a release and the time when it was rolled back."""


@dataclass(frozen=True, slots=True)
class Folder:
    """One release. ``at`` is the time of the switch for the current release, else the time of the directory.

    ``deployed_by`` owns the link for the current release, else the directory: the name of a user, or its number.
    """

    name: str
    at: datetime
    current: bool
    undone: bool
    deployed_by: str = ""


@dataclass(frozen=True, slots=True)
class ReleaseFolders:
    """The releases of one service."""

    releases: Path
    link: Path

    def all(self) -> tuple[Folder, ...]:
        """Return all releases, newest first, in the order of their creation.

        Raises:
            TargetError: a directory or the link is missing, or the link points elsewhere.
        """
        current, undone = self.current(), self._undone()
        try:
            with os.scandir(self.releases) as found:
                entries = [each for each in found if each.is_dir(follow_symlinks=False) and each.name[0] != "."]
        except OSError as error:
            raise TargetError(f"cannot list the releases in {self.releases}: {error.strerror}") from None
        made = []
        for entry in entries:
            created = entry.stat(follow_symlinks=False)
            deployed = self.link.lstat() if entry.name == current else created
            at, user = datetime.fromtimestamp(deployed.st_mtime, UTC), _user(deployed.st_uid)
            made.append((created.st_mtime_ns, entry.name, at, user))
        made.sort(reverse=True)
        return tuple(Folder(name, at, name == current, name in undone, user) for _, name, at, user in made)

    def current(self) -> str:
        """Return the name of the release in use.

        Raises:
            TargetError: there is no link, or it points outside the directory of releases.
        """
        try:
            target = Path(os.path.normpath(self.link.parent / self.link.readlink()))
        except OSError as error:
            raise TargetError(f"cannot read the link {self.link}: {error.strerror}") from None
        if target.parent != Path(os.path.normpath(self.releases)) or not target.is_dir() or target.is_symlink():
            raise TargetError(f"{self.link} points to {target}, which is not a release in {self.releases}")
        return target.name

    def _undone(self) -> dict[str, str]:
        if not os.path.lexists(self.releases / RECORD):
            return {}
        try:
            with disk.opened(self.releases) as handle:
                found = untrusted_json.decode(disk.read_own(handle, RECORD))
        except (OSError, ValueError) as error:
            raise TargetError(f"cannot read {self.releases / RECORD}: {error}") from None
        return dict(found) if isinstance(found, dict) else {}

    def missing_rights(self) -> tuple[str, ...]:
        """Return the folders that a switch must change and this process may not write, as text."""
        folders = dict.fromkeys((self.releases, self.link.parent))
        return tuple(f"write in {each}" for each in folders if not os.access(each, os.W_OK | os.X_OK))

    def switch(self, to: str, *, expected: str, now: datetime) -> None:
        """Switch the link atomically to another release, and record that the current release was rolled back.

        Raises:
            TargetError: the link is not as planned, or there is no such release.
            Refused: there is no permission to write.
        """
        found = self.current()
        if found != expected:
            raise TargetError(
                f"{self.link} was switched to {found} after planning (expected {expected}); nothing was changed"
            )
        if to not in {folder.name for folder in self.all()}:
            raise TargetError(f"there is no release {to!r} in {self.releases}")
        record = json.dumps(self._undone() | {expected: rfc3339(now)}, indent=1).encode()
        try:
            with disk.opened(self.releases) as handle:
                replace_file(handle, RECORD, record, mode=0o644)
            self._point(to)
        except OSError as error:
            raise Refused(f"cannot switch {self.link}: {error.strerror}") from None

    def _point(self, to: str) -> None:
        draft = f".{self.link.name}.{secrets.token_hex(4)}"
        with disk.opened(self.link.parent, link=True) as handle:
            os.symlink(os.path.relpath(self.releases / to, self.link.parent), draft, dir_fd=handle)
            try:
                os.rename(draft, self.link.name, src_dir_fd=handle, dst_dir_fd=handle)
            except OSError:
                with suppress(OSError):
                    os.unlink(draft, dir_fd=handle)
                raise
            os.fsync(handle)


def _user(number: int) -> str:
    """Return the name of a user; the number if this host does not know it."""
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"user {number}"
