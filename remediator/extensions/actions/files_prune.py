"""``files.prune``: Free disk space: move old backups into quarantine. The next prune after a grace period deletes
them.

It works only in the backup folder of the inventory, on files that match its pattern. It never moves the newest files.
It moves nothing until one of the newest files is proved to be complete. The plan contains each file with its size, time
and SHA-256. A file is moved or deleted only if all of them are still the same. For the plan, the action reads each
chosen file once, within 40 seconds for all files. It does not read an unchanged file again.

To free space at once, the quarantine must be on another filesystem: set ``backups.quarantine`` in the inventory. On the
same filesystem, a moved file frees its space only when it is deleted. The plan shows this. A prune that freed no space
is *failed*, also if it moved files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import Field

from remediator.clients.host.disk import File, Pin
from remediator.clients.host.quarantine import digest_of_note
from remediator.clients.volume.files import Volume
from remediator.core.clock import format_duration
from remediator.core.cost import Cost
from remediator.core.outcome import Outcome
from remediator.core.plan import PlannedCall
from remediator.core.sizes import format_size
from remediator.core.text import join_names
from remediator.core.types import Duration
from remediator.errors import TargetError
from remediator.extensions import bindings
from remediator.extensions.actions import _remote_calls
from remediator.extensions.actions.base import Action, EffectStatus, Observation, Result, UndoCall
from remediator.extensions.parameters import Parameters
from remediator.playbooks.facts import Fact
from remediator.playbooks.inventory import Service
from remediator.playbooks.service_parts import Backups

_LOOKED_AT = 5
"""Number of newest backups to examine for a complete one."""


class PruneParameters(Parameters):
    """Parameters of ``files.prune``. With both, a file must meet both conditions."""

    goal_percent: int | None = Field(
        default=None, ge=1, le=99, description="Move only as many files as needed to reach this disk usage (percent)."
    )
    older_than: Duration | None = Field(default=None, description="Move only files last changed longer ago than this.")


class FilesPrune(Action):
    """Move old backups into quarantine. Keep the newest backups; at least one of them is complete."""

    name = "files.prune"
    needs = ("backups",)
    Parameters = PruneParameters
    reversible = True
    measures = ("deleted_bytes", "only_copy")
    timeout = timedelta(seconds=120)
    planning = timedelta(seconds=30)
    facts = (
        Fact("freed", "integer", "Space freed on the filesystem of the backups.", unit="bytes"),
        Fact("batch", "string", "ID of the batch in quarantine."),
        Fact("moved", "list", "Names of the moved backups."),
        Fact("percent", "number", "Used part of the disk after the move.", unit="%"),
    )

    async def plan(self, service: Service, parameters: PruneParameters) -> PlannedCall:
        backups, now = bindings.backups(service), self.clients.clock.now()
        volume = bindings.volume(service)
        files = await volume.backups()
        kept = await _kept(volume, backups, files)
        movable = [file for file in files if file.name not in kept]
        chosen = await _chosen(volume, parameters, movable, now + await volume.clock_ahead())
        expired = await _expired(volume, backups, now)
        if not chosen and not expired:
            raise TargetError(
                f"no backup in {backups.path} can be moved: {len(files)} found, {len(kept)} of them must stay"
            )
        same = await volume.is_quarantine_on_same_filesystem()
        pins = await volume.pins(tuple(chosen))
        texts = []
        if expired:
            texts.append(f"delete these batches from quarantine permanently: {', '.join(expired)}")
        if chosen:
            texts.append(_move_text(volume, backups, files, chosen))
        if chosen and same and not expired:
            texts.append("this frees nothing now, because the quarantine is on the filesystem of the backups")
        risk = f"After {format_duration(backups.grace)}, these backups cannot be restored."
        if same:
            risk += (
                " The quarantine is on the same filesystem: set backups.quarantine to a folder on another filesystem."
            )
        return PlannedCall(
            text="; ".join(texts),
            arguments={
                "files": [asdict(pin) for pin in pins],
                "batch": now.strftime("%Y%m%dT%H%M%S%f"),
                "kept": sorted(kept),
                "expired": expired,
            },
            volatile_fields=("batch",),
            undo=f"move the backups back, within {format_duration(backups.grace)}",
            risk=risk,
        )

    async def cost(self, service: Service, parameters: PruneParameters, call: PlannedCall) -> Cost:
        """Return the bytes that are deleted permanently: the batches whose grace period has ended."""
        bindings.backups(service)
        sizes = await bindings.volume(service).batch_sizes()
        deleted = sum(sizes.get(batch, 0) for batch in call.arguments["expired"])
        return Cost(deleted_bytes=deleted, only_copy=False)  # keep the newest complete backup

    async def execute(self, service: Service, parameters: PruneParameters, call: PlannedCall) -> Result:
        bindings.backups(service)
        volume = bindings.volume(service)
        before = await volume.backups_usage()
        same, batches = await volume.is_quarantine_on_same_filesystem(), await volume.batches()
        # Add up what the calls free. The free space would not show it: other processes write to the filesystem too.
        freed = 0
        for batch, sha256 in call.arguments["expired"].items():
            deleted = await volume.delete(batch, sha256) if batch in batches else 0
            freed += deleted if same else 0
        files = tuple(Pin(**each) for each in call.arguments["files"])
        moved = await volume.take(files, str(call.arguments["batch"]), self.clients.clock.now())
        freed += 0 if same else sum(each.size for each in moved)
        after = await volume.backups_usage()
        output = {
            "batch": call.arguments["batch"],
            "moved": [each.name for each in moved],
            "percent": round(after.percent, 1),
            "freed": freed,
        }
        text = f"{len(moved)} backups moved; the disk is {after.percent:.0f} % full (before: {before.percent:.0f} %)"
        if freed <= 0:
            return Result(Outcome.FAILED, f"no space was freed: {text}", output)
        return Result(Outcome.OK, f"{format_size(freed)} freed: {text}", output)

    def undo_call(self, call: PlannedCall, output: Mapping[str, Any]) -> UndoCall:
        return UndoCall("files.undo_prune", {"batch": str(call.arguments["batch"])})

    async def observe(
        self, service: Service, parameters: PruneParameters, call: PlannedCall, since: datetime
    ) -> Observation:
        """Count the planned files that are still there. If only some were moved, a new plan can move the rest."""
        bindings.backups(service)
        volume = bindings.volume(service)
        if (known := await _remote_calls.of_host(service, self.clients.clock.now() - since)) is not None:
            return known
        if held := set(call.arguments["expired"]) & set(await volume.batches()):
            return Observation(EffectStatus.NO, f"{len(held)} expired batches still exist", {"expired": len(held)})
        there = {file.inode for file in await volume.backups()}
        left = [each["name"] for each in call.arguments["files"] if each["inode"] in there]
        if not left and not call.arguments["expired"] and await volume.is_quarantine_on_same_filesystem():
            text = "all planned files are in quarantine, on the same filesystem: nothing was freed"
            return Observation(EffectStatus.NO, text, {"left": 0})
        if not left:
            return Observation(EffectStatus.YES, "all planned files are in quarantine", {"left": 0})
        return Observation(
            EffectStatus.NO,
            f"{len(left)} of {len(call.arguments['files'])} planned files are still there",
            {"left": len(left)},
        )


async def _kept(volume: Volume, backups: Backups, files: Sequence[File]) -> frozenset[str]:
    """Return the names of the kept backups: the newest backups, and the newest complete backup.

    Raises:
        TargetError: no newest backup is complete. Then no backup is moved.
    """
    newest = {file.name for file in files[: backups.keep]}
    if backups.verify == "none" or not files:
        return frozenset(newest)
    flaws: list[tuple[str, str]] = []
    for file in files[: max(_LOOKED_AT, backups.keep)]:
        flaw = await volume.backup_problem(file.name)
        if flaw is None:
            return frozenset(newest | {file.name} | {name for name, _ in flaws})
        flaws.append((file.name, flaw))
    reasons = "; ".join(f"{name}: {flaw}" for name, flaw in flaws[:3])
    raise TargetError(f"none of the newest backups in {backups.path} is complete, so no backup is moved: {reasons}")


async def _chosen(volume: Volume, parameters: PruneParameters, files: Sequence[File], now: datetime) -> list[File]:
    """Return the backups to move: the oldest first, until the goal is reached."""
    if parameters.older_than is not None:
        before = (now - parameters.older_than).timestamp()
        files = [file for file in files if file.changed / 1e9 < before]
    oldest = sorted(files, key=lambda file: (file.changed, file.name))
    if parameters.goal_percent is None:
        return oldest
    usage, chosen = await volume.backups_usage(), list[File]()
    surplus = usage.used - (usage.used + usage.free) * parameters.goal_percent / 100
    if await volume.is_quarantine_on_same_filesystem():  # files that wait there for deletion free their space later
        surplus -= sum((await volume.batch_sizes()).values())
    for file in oldest:
        if surplus <= 0:
            break
        chosen.append(file)
        surplus -= file.space
    return chosen


async def _expired(volume: Volume, backups: Backups, now: datetime) -> dict[str, str]:
    """Return the batches whose grace period has ended, each with the SHA-256 of its list."""
    return {
        batch: digest_of_note(note)
        for batch, note in sorted((await volume.batches()).items())
        if now - datetime.fromisoformat(str(note["at"])).astimezone(UTC) >= backups.grace
    }


def _move_text(volume: Volume, backups: Backups, files: Sequence[File], chosen: Sequence[File]) -> str:
    size, folder = format_size(sum(file.space for file in chosen)), volume.folders.quarantine
    return (
        f"move {len(chosen)} of {len(files)} backups ({size}) from {backups.path} to {folder}, where the next "
        f"prune after {format_duration(backups.grace)} deletes them: {join_names([file.name for file in chosen])}"
    )
