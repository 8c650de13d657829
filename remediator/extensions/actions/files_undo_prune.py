"""``files.undo_prune``: Move a batch of backups from quarantine to its original folder."""

from __future__ import annotations

import asyncio
import threading
from datetime import datetime, timedelta

from pydantic import Field

from remediator.clients.host import disk
from remediator.clients.host.quarantine import digest_of_note
from remediator.core.outcome import Outcome
from remediator.core.plan import PlannedCall
from remediator.core.sizes import format_size
from remediator.errors import TargetError
from remediator.extensions import bindings
from remediator.extensions.actions.base import Action, EffectStatus, Observation, Result
from remediator.extensions.parameters import Parameters
from remediator.playbooks.facts import Fact
from remediator.playbooks.inventory import Service


class UndoPruneParameters(Parameters):
    """Parameters of ``files.undo_prune``."""

    batch: str = Field(pattern=r"^[0-9A-Za-z]{1,40}$", description="Name of the batch, as files.prune reports it.")


class FilesUndoPrune(Action):
    """Move backups from quarantine back to the backup folder."""

    name = "files.undo_prune"
    needs = ("backups",)
    Parameters = UndoPruneParameters
    idempotent = True
    timeout = timedelta(seconds=120)
    facts = (Fact("files", "list", "Names of the backups that were moved back."),)

    async def plan(self, service: Service, parameters: UndoPruneParameters) -> PlannedCall:
        backups = bindings.backups(service)
        quarantine = bindings.quarantine(backups)
        note = await asyncio.to_thread(quarantine.held, parameters.batch)
        size = sum(int(file["size"]) for file in note["files"])
        free = (await asyncio.to_thread(disk.usage, backups.path)).free
        if size > free and not disk.same_filesystem(backups.path, quarantine.folder):
            raise TargetError(
                f"the backups need {format_size(size)}, but {backups.path} has only {format_size(free)} free"
            )
        return PlannedCall(
            text=f"move {len(note['files'])} backups of batch {parameters.batch} back to {backups.path}",
            arguments={"batch": parameters.batch, "sha256": digest_of_note(note)},
        )

    async def execute(self, service: Service, parameters: UndoPruneParameters, call: PlannedCall) -> Result:
        backups = bindings.backups(service)
        quarantine = bindings.quarantine(backups)
        stop = threading.Event()
        try:
            put = await asyncio.to_thread(
                quarantine.restore,
                parameters.batch,
                str(call.arguments["sha256"]),
                backups.path,
                lambda: not stop.is_set(),
            )
        finally:
            stop.set()  # after a timeout, the thread stops after the current file
        return Result(Outcome.OK, f"{len(put)} backups moved back to {backups.path}", {"files": list(put)})

    async def observe(
        self, service: Service, parameters: UndoPruneParameters, call: PlannedCall, since: datetime
    ) -> Observation:
        """Search for the batch. Its list is removed last, so that an existing batch is not done."""
        quarantine = bindings.quarantine(bindings.backups(service))
        there = parameters.batch in await asyncio.to_thread(quarantine.batches)
        happened, word = (EffectStatus.NO, "still") if there else (EffectStatus.YES, "no longer")
        return Observation(happened, f"batch {parameters.batch} is {word} in quarantine")
