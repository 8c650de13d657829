"""``redis.restore_backup``: Start Redis from a backup when its files cannot be repaired. Data written after the backup
is lost.

It works only while Redis is stopped, only with a backup from the backup folder, and only if the backup is
complete. The files of Redis are moved to another folder, not deleted.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import stat
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pydantic import Field

from remediator.clients.host import disk
from remediator.clients.host.disk import File
from remediator.clients.redis.files import rdb_problem
from remediator.core.clock import rfc3339
from remediator.core.cost import Cost
from remediator.core.outcome import Outcome
from remediator.core.plan import PlannedCall
from remediator.core.sizes import MEBIBYTE, format_size
from remediator.errors import Refused, TargetError
from remediator.extensions import bindings
from remediator.extensions.actions.base import Action, EffectStatus, Observation, Result
from remediator.extensions.parameters import Parameters
from remediator.extensions.platforms.base import State
from remediator.playbooks.facts import Fact
from remediator.playbooks.inventory import Service

_ASIDE = "before-restore-"
_APPEND_ONLY = "appendonlydir"
_OWN = ("dump.rdb", _APPEND_ONLY)
_BASE = "appendonly.aof.1.base.rdb"
_MANIFEST = "appendonly.aof.manifest"
_PIECE = MEBIBYTE
_SPARE = 1.1


class RestoreBackupParameters(Parameters):
    """Parameters of ``redis.restore_backup``."""

    backup: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        description="Name of the backup; default: the newest complete backup.",
    )
    append_only: bool = Field(
        default=True, description="Redis starts with appendonly yes; the backup becomes the base of that file."
    )
    stop_timeout: float = Field(default=60.0, gt=0, le=600, description="Seconds that Redis may take to start.")


class RedisRestoreBackup(Action):
    """Replace the files of Redis with a backup and start Redis. Loses data written after the backup."""

    name = "redis.restore_backup"
    needs = ("disk", "backups")
    Parameters = RestoreBackupParameters
    interrupts = True
    destructive = True
    measures = ("unsaved_writes", "last_save_age", "only_copy")
    timeout = timedelta(minutes=10)
    planning = timedelta(seconds=30)
    facts = (Fact("sha256", "string", "SHA-256 of the restored file."),)

    async def plan(self, service: Service, parameters: RestoreBackupParameters) -> PlannedCall:
        folder, backups = bindings.disk_folder(service), bindings.backups(service)
        status = await self.clients.platform_of(service).status(service)
        if status.state in (State.RUNNING, State.STARTING):
            raise TargetError(f"{service.name} is running; a backup is restored only while Redis is stopped")
        backup = await _whole(backups.path, backups.pattern, parameters.backup)
        free = (await asyncio.to_thread(disk.usage, folder)).free
        if free < backup.size * _SPARE:
            raise Refused(
                f"the backup needs {format_size(backup.size)}, but {folder} has only {format_size(free)} free"
            )
        taken = rfc3339(datetime.fromtimestamp(backup.changed / 1e9, UTC))[:19] + "Z"
        return PlannedCall(
            text=f"move the Redis files in {folder} to a new folder, copy {backup.name} ({taken}), start Redis",
            arguments={
                "backup": backup.name,
                "size": backup.size,
                "inode": backup.inode,
                "changed": backup.changed,
                "sha256": await asyncio.to_thread(_digest, backups.path, backup.name),
                "aside": _ASIDE + self.clients.clock.now().strftime("%Y%m%dT%H%M%S"),
            },
            volatile_fields=("aside",),
            pin=status.pin,
            risk=f"All data written after {taken} is lost.",
        )

    async def cost(self, service: Service, parameters: RestoreBackupParameters, call: PlannedCall) -> Cost:
        """Return the age of the backup. How many writes were made since is unknown: Redis does not run."""
        source = bindings.backups(service).path / str(call.arguments["backup"])
        taken = (await asyncio.to_thread(os.stat, source, follow_symlinks=False)).st_mtime
        age = max(0.0, self.clients.clock.now().timestamp() - taken)
        why = f"Redis does not run; what was written after the backup {source.name} is lost"
        return Cost(last_save_age=age, only_copy=False, unknown={"unsaved_writes": why})

    async def execute(self, service: Service, parameters: RestoreBackupParameters, call: PlannedCall) -> Result:
        platform = self.clients.platform_of(service)
        status = await platform.status(service)
        if status.state in (State.RUNNING, State.STARTING):
            raise TargetError(f"{service.name} was started after planning; nothing was changed")
        folder, source = bindings.disk_folder(service), bindings.backups(service).path / str(call.arguments["backup"])
        digest = await asyncio.to_thread(_put, folder, source, call.arguments, parameters.append_only)
        await platform.restart(service, status.pin, parameters.stop_timeout)
        aside = folder / str(call.arguments["aside"])
        status = await platform.status(service)
        if status.state not in (State.RUNNING, State.STARTING):
            text = f"Redis did not start from {source.name}: {status.summary}; its earlier files are in {aside}"
            return Result(Outcome.FAILED, text, {"sha256": digest})
        return Result(
            Outcome.OK, f"Redis started from {source.name}; its earlier files are in {aside}", {"sha256": digest}
        )

    async def observe(
        self, service: Service, parameters: RestoreBackupParameters, call: PlannedCall, since: datetime
    ) -> Observation:
        """Check the first and the last change: the folder for the earlier files, and the state of Redis."""
        facts: dict[str, Any] = {"aside": call.arguments["aside"]}
        if not (bindings.disk_folder(service) / str(call.arguments["aside"])).exists():
            return Observation(EffectStatus.NO, "the Redis files were not moved", facts)
        status = await self.clients.platform_of(service).status(service)
        if status.state is State.RUNNING:
            return Observation(EffectStatus.YES, f"the Redis files were replaced: {status.summary}", facts)
        return Observation(
            EffectStatus.UNKNOWN, f"the Redis files were moved, but Redis is not running: {status.summary}", facts
        )


async def _whole(folder: Path, pattern: str, name: str | None) -> File:
    """Return the named backup, or the newest complete one.

    Raises:
        TargetError: there is no complete backup.
    """
    found = await asyncio.to_thread(disk.listed, folder, pattern)
    chosen = [file for file in found if name in (None, file.name)]
    for file in chosen[:5]:
        if await rdb_problem(folder / file.name) is None:
            return file
    raise TargetError(f"{folder} has no complete backup{f' {name!r}' if name else ''} ({len(chosen)} found)")


def _digest(folder: Path, name: str) -> str:
    with disk.opened(folder) as handle:
        return disk.digest_of(handle, name)


def _put(folder: Path, source: Path, planned: Mapping[str, Any], append_only: bool) -> str:
    """Move the Redis files, copy the backup, and return the SHA-256 of the copy.

    The folders belong to other users, who can put links and other files into them at any time. So everything happens
    through open directories, with single names, never through a link, and new files are created, never opened.
    """
    aside = disk.component(str(planned["aside"]))
    with disk.opened(source.parent) as backups, disk.opened(folder) as own:
        pin = disk.Pin(source.name, *(planned[field] for field in ("size", "sha256", "changed", "inode")))
        with disk.opened_pinned(backups, pin) as reading:
            try:
                os.mkdir(aside, 0o700, dir_fd=own)  # the first change; observe() reports "no" without this folder
            except FileExistsError:
                raise TargetError(f"{folder / aside} already exists: an earlier attempt created it") from None
            except OSError as error:
                raise Refused(f"cannot write to {folder}: {error.strerror}") from None
            moved = False
            try:
                _move_aside(own, aside)
                moved = True
                return _replaced(own, reading, str(planned["sha256"]), append_only)
            except (OSError, TargetError) as error:
                _undone(own, aside, copied=moved)
                why = error.strerror if isinstance(error, OSError) else error
                raise Refused(
                    f"cannot copy {source.name} to {folder}: {why}; the Redis files were moved back"
                ) from None


def _move_aside(own: int, aside: str) -> None:
    with disk.opened_in(own, aside) as kept:
        disk.require_own(kept, aside)
        for name in _OWN:
            if disk.stat_of(own, name) is not None:
                os.rename(name, name, src_dir_fd=own, dst_dir_fd=kept)


def _replaced(own: int, reading: Any, sha256: str, append_only: bool) -> str:
    if not append_only:
        return _copied(own, own, "dump.rdb", reading, sha256)
    os.mkdir(_APPEND_ONLY, 0o700, dir_fd=own)
    with disk.opened_in(own, _APPEND_ONLY) as target:
        disk.require_own(target, _APPEND_ONLY)
        digest = _copied(own, target, _BASE, reading, sha256)
        with _created(target, _MANIFEST) as file:
            file.write(f"file {_BASE} seq 1 type b\n".encode("ascii"))
            _give(own, file.fileno())
        _give(own, target)
    return digest


def _created(target: int, name: str) -> Any:
    """Create a file that does not exist yet."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.fdopen(os.open(name, flags, 0o640, dir_fd=target), "wb")


def _copied(own: int, target: int, name: str, reading: Any, sha256: str) -> str:
    """Copy the backup and return its SHA-256.

    Raises:
        TargetError: the content differs from the plan.
    """
    digest = hashlib.sha256()
    with _created(target, name) as writing:
        while piece := reading.read(_PIECE):
            digest.update(piece)
            writing.write(piece)
        writing.flush()
        os.fsync(writing.fileno())
        if digest.hexdigest() != sha256:
            raise TargetError("its content changed after planning")
        _give(own, writing.fileno())
    return digest.hexdigest()


def _give(own: int, handle: int) -> None:
    """Give an open file to the owner of the Redis folder."""
    owner = os.fstat(own)
    os.fchown(handle, owner.st_uid, owner.st_gid)


def _undone(own: int, aside: str, *, copied: bool) -> None:
    """Move the Redis files back, so that the next start does not find an empty folder.

    Args:
        own: the Redis folder.
        aside: the folder with the files that were moved.
        copied: all files were moved, so the files in the Redis folder are copies.
    """
    with disk.opened_in(own, aside) as kept:
        for name in _OWN:
            seen = disk.stat_of(own, name) if copied else None
            if seen is not None and stat.S_ISDIR(seen.st_mode):
                shutil.rmtree(name, ignore_errors=True, dir_fd=own)
            elif seen is not None:
                os.unlink(name, dir_fd=own)
            if disk.stat_of(kept, name) is not None:
                os.rename(name, name, src_dir_fd=kept, dst_dir_fd=own)
    os.rmdir(aside, dir_fd=own)
