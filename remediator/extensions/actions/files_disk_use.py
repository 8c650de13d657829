"""``files.disk_use``: Report which files fill the data disk of a service: backups, Redis files or other files."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import PurePosixPath
from typing import Any

from pydantic import Field

from remediator.clients.host.folders import Folders
from remediator.core.outcome import Outcome
from remediator.core.plan import PlannedCall
from remediator.core.sizes import format_size
from remediator.extensions import bindings
from remediator.extensions.actions.base import Action, Result
from remediator.extensions.parameters import Parameters
from remediator.playbooks.facts import Fact
from remediator.playbooks.inventory import Service

_KINDS = ("backups", "aof", "rdb", "temporary", "other")
_NAMED = 3


class DiskUseParameters(Parameters):
    """Parameters of ``files.disk_use``."""

    top: int = Field(default=10, ge=1, le=100, description="Number of largest files to list.")


class FilesDiskUse(Action):
    """Report which files fill the data disk. Fails above the limit of the inventory. Read-only."""

    name = "files.disk_use"
    needs = ("disk",)
    Parameters = DiskUseParameters
    mutates = False
    idempotent = True
    timeout = timedelta(seconds=10)
    facts = (
        Fact("percent", "number", "Used part of the disk.", unit="%"),
        Fact("size", "integer", "Size of the disk.", unit="bytes"),
        Fact("free", "integer", "Free space.", unit="bytes"),
        Fact("culprit", "string", "Kind of files that uses the most space.", values=(*_KINDS, "none")),
        Fact("kinds", "object", "Space by kind of files."),
        Fact("kinds.backups", "integer", "Backups.", unit="bytes"),
        Fact("kinds.aof", "integer", "Append-only file.", unit="bytes"),
        Fact("kinds.rdb", "integer", "Snapshots.", unit="bytes"),
        Fact("kinds.temporary", "integer", "Temporary files of Redis.", unit="bytes"),
        Fact("kinds.other", "integer", "Other files.", unit="bytes"),
        Fact("kinds.outside", "integer", "Used space of the disk outside of this folder.", unit="bytes"),
        Fact("top", "list", "The largest files: file and space in bytes."),
    )

    async def plan(self, service: Service, parameters: DiskUseParameters) -> PlannedCall:
        return PlannedCall(
            text=f"read the sizes of files in {bindings.data_files(service).folders.data} and the usage of their disk"
        )

    async def execute(self, service: Service, parameters: DiskUseParameters, call: PlannedCall) -> Result:
        settings, volume = bindings.disk(service), bindings.data_files(service)
        folder, usage, files = volume.folders.data, await volume.usage(), await volume.space()
        kinds = by_kind(files, _backups(volume.folders))
        culprit = max(kinds, key=lambda kind: kinds[kind]) if any(kinds.values()) else "none"
        outside = max(usage.used - sum(files.values()), 0)
        largest = sorted(files, key=lambda name: -files[name])
        facts: dict[str, Any] = {
            "percent": round(usage.percent, 1),
            "size": usage.size,
            "free": usage.free,
            "culprit": culprit,
            "kinds": {**kinds, "outside": outside},
            "top": [{"file": name, "space": files[name]} for name in largest[: parameters.top]],
        }
        parts = ", ".join(f"{kind} {format_size(taken)}" for kind, taken in kinds.items() if taken)
        text = f"{folder} is {usage.percent:.0f} % full: {parts or 'no files in this folder'}"
        if largest:
            named = (f"{name} ({format_size(files[name])})" for name in largest[:_NAMED])
            text += f"; largest: {', '.join(named)}"
        text += f"; {format_size(outside)} are used outside of this folder"
        return Result(Outcome.OK if usage.percent < settings.full_percent else Outcome.FAILED, text, facts)


def by_kind(files: Mapping[str, int], backups: PurePosixPath | None) -> dict[str, int]:
    """Return the bytes used by backups, the append-only file, snapshots, temporary Redis files and other files."""
    kinds = dict.fromkeys(_KINDS, 0)
    for name, space in files.items():
        path = PurePosixPath(name)
        if backups is not None and backups in path.parents:
            kind = "backups"
        elif path.name.startswith("temp-"):
            kind = "temporary"
        elif ".aof" in path.name:
            kind = "aof"
        else:
            kind = "rdb" if path.suffix == ".rdb" else "other"
        kinds[kind] += space
    return kinds


def _backups(folders: Folders) -> PurePosixPath | None:
    """Return the backup folder relative to the data folder; None if it is outside."""
    if folders.data is None or folders.backups is None:
        return None
    backups = PurePosixPath(folders.backups)
    return backups.relative_to(folders.data) if backups.is_relative_to(folders.data) else None
