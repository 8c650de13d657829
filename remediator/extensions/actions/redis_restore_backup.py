"""``redis.restore_backup``: Start Redis from a backup when its own files cannot be repaired. Data written after the
backup is lost.

It works only while Redis is stopped, only with a backup from the backup folder, and only if the backup is
complete. The files of Redis are moved to another folder, not deleted.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pydantic import Field

from remediator.clients.host import disk
from remediator.clients.host.disk import File
from remediator.clients.redis.files import rdb_problem
from remediator.core.clock import rfc3339
from remediator.core.outcome import Outcome
from remediator.core.plan import PlannedCall
from remediator.errors import Refused, TargetError
from remediator.extensions import bindings
from remediator.extensions.actions.base import Action, EffectStatus, Observation, Result
from remediator.extensions.clientset import ClientSet
from remediator.extensions.parameters import Parameters
from remediator.extensions.platforms.base import State
from remediator.playbooks.facts import Fact
from remediator.playbooks.inventory import Service

_ASIDE = "before-restore-"
_APPEND_ONLY = "appendonlydir"
_OWN = ("dump.rdb", _APPEND_ONLY)
_SPARE = 1.1


class RestoreBackupParameters(Parameters):
    """Parameters of ``redis.restore_backup``."""

    backup: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        description="Name of the backup; default: the newest complete one.",
    )
    append_only: bool = Field(
        default=True, description="Redis starts with appendonly yes; the backup becomes the base of that file."
    )
    stop_timeout: float = Field(default=60.0, gt=0, le=600, description="Seconds that Redis may take to start.")


class RedisRestoreBackup(Action):
    """Replace the files of Redis with a backup and start Redis. Loses data written after the backup."""

    name = "redis.restore_backup"
    Parameters = RestoreBackupParameters
    interrupts = True
    destructive = True
    timeout = timedelta(minutes=10)
    facts = (Fact("sha256", "string", "SHA-256 of the restored file."),)

    def __init__(self, clients: ClientSet) -> None:
        self._platforms = clients.platforms
        self._clock = clients.clock

    async def plan(self, service: Service, parameters: RestoreBackupParameters) -> PlannedCall:
        status = await self._platforms[service.platform.kind].status(service)
        if status.state in (State.RUNNING, State.STARTING):
            raise TargetError(f"{service.name} is running; a backup is restored only while Redis is stopped")
        folder, backups = bindings.disk(service).path, bindings.backups(service)
        backup = await _whole(backups.path, backups.pattern, parameters.backup)
        free = (await asyncio.to_thread(disk.usage, folder)).free
        if free < backup.size * _SPARE:
            raise Refused(f"the backup needs {backup.size} bytes, but {folder} has only {free} bytes free")
        taken = rfc3339(datetime.fromtimestamp(backup.changed / 1e9, UTC))[:19]
        return PlannedCall(
            text=f"move the Redis files in {folder} to a new folder, copy {backup.name} ({taken}Z), start Redis",
            arguments={
                "backup": backup.name,
                "size": backup.size,
                "inode": backup.inode,
                "aside": _ASIDE + self._clock.now().strftime("%Y%m%dT%H%M%S"),
            },
            volatile_fields=("aside",),
            pin=status.pin,
            risk=f"All data written after {taken}Z is lost.",
        )

    async def execute(self, service: Service, parameters: RestoreBackupParameters, call: PlannedCall) -> Result:
        platform = self._platforms[service.platform.kind]
        status = await platform.status(service)
        if status.state in (State.RUNNING, State.STARTING):
            raise TargetError(f"{service.name} was started after planning; nothing was changed")
        folder, source = bindings.disk(service).path, bindings.backups(service).path / str(call.arguments["backup"])
        if _inode(source) != call.arguments["inode"]:
            raise TargetError(f"{source.name} was replaced or removed after planning; nothing was changed")
        digest = await asyncio.to_thread(_put, folder, source, str(call.arguments["aside"]), parameters.append_only)
        await platform.restart(service, status.pin, parameters.stop_timeout)
        aside = folder / str(call.arguments["aside"])
        return Result(
            Outcome.OK, f"Redis started from {source.name}; its earlier files are in {aside}", {"sha256": digest}
        )

    async def observe(
        self, service: Service, parameters: RestoreBackupParameters, call: PlannedCall, since: datetime
    ) -> Observation:
        """Check the first and the last change: the folder for the earlier files, and the state of Redis."""
        facts: dict[str, Any] = {"aside": call.arguments["aside"]}
        if not (bindings.disk(service).path / str(call.arguments["aside"])).exists():
            return Observation(EffectStatus.NO, "the Redis files were not moved", facts)
        status = await self._platforms[service.platform.kind].status(service)
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


def _inode(path: Path) -> int | None:
    try:
        return os.stat(path, follow_symlinks=False).st_ino
    except OSError:
        return None


def _put(folder: Path, source: Path, aside: str, append_only: bool) -> str:
    """Move the Redis files, copy the backup, and return the SHA-256 of the copy."""
    try:
        (folder / aside).mkdir(mode=0o700)  # the first change; observe() reports "no" without this folder
    except FileExistsError:
        raise TargetError(f"{folder / aside} already exists: an earlier attempt created it") from None
    except OSError as error:
        raise Refused(f"cannot write to {folder}: {error.strerror}") from None
    try:
        for name in _OWN:
            if os.path.lexists(folder / name):
                os.rename(folder / name, folder / aside / name)
        return _copied(folder, source, append_only)
    except OSError as error:
        _undone(folder, aside)
        raise Refused(
            f"cannot copy {source.name} to {folder}: {error.strerror}; the Redis files were moved back"
        ) from None


def _copied(folder: Path, source: Path, append_only: bool) -> str:
    target = folder / "dump.rdb"
    if append_only:
        (folder / _APPEND_ONLY).mkdir()
        target = folder / _APPEND_ONLY / "appendonly.aof.1.base.rdb"
        manifest = f"file {target.name} seq 1 type b\n"
        (folder / _APPEND_ONLY / "appendonly.aof.manifest").write_text(manifest, encoding="ascii")
    with source.open("rb") as reading, target.open("wb") as writing:
        shutil.copyfileobj(reading, writing)
        writing.flush()
        os.fsync(writing.fileno())
    owner = os.stat(folder)
    for path in (target, target.parent, *target.parent.glob("*.manifest")):
        os.chown(path, owner.st_uid, owner.st_gid)
    return hashlib.sha256(target.read_bytes()).hexdigest()


def _undone(folder: Path, aside: str) -> None:
    """Move the Redis files back, so that the next start does not find an empty folder."""
    for name in _OWN:
        if not os.path.lexists(folder / aside / name):
            continue  # did not exist, or was not moved
        if name == _APPEND_ONLY:
            shutil.rmtree(folder / name, ignore_errors=True)
        os.rename(folder / aside / name, folder / name)
    os.rmdir(folder / aside)
