"""``files.undo_prune``: Move a batch of backups from quarantine to its original folder."""

from __future__ import annotations

from datetime import datetime, timedelta

from pydantic import Field

from remediator.clients.host.quarantine import digest_of_note
from remediator.core.outcome import Outcome
from remediator.core.plan import PlannedCall
from remediator.core.sizes import format_size
from remediator.errors import TargetError
from remediator.extensions import bindings
from remediator.extensions.actions import _remote_calls
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
        backups, volume = bindings.backups(service), bindings.volume(service)
        note = await volume.batch(parameters.batch)
        size = sum(int(file["size"]) for file in note["files"])
        free = (await volume.backups_usage()).free
        if size > free and not await volume.is_quarantine_on_same_filesystem():
            raise TargetError(
                f"the backups need {format_size(size)}, but {backups.path} has only {format_size(free)} free"
            )
        return PlannedCall(
            text=f"move {len(note['files'])} backups of batch {parameters.batch} back to {backups.path}",
            arguments={"batch": parameters.batch, "sha256": digest_of_note(note)},
        )

    async def execute(self, service: Service, parameters: UndoPruneParameters, call: PlannedCall) -> Result:
        backups = bindings.backups(service)
        put = await bindings.volume(service).restore(parameters.batch, str(call.arguments["sha256"]))
        return Result(Outcome.OK, f"{len(put)} backups moved back to {backups.path}", {"files": list(put)})

    async def observe(
        self, service: Service, parameters: UndoPruneParameters, call: PlannedCall, since: datetime
    ) -> Observation:
        """Search for the batch.

        Its list is removed last, so an existing batch means that the deletion has not finished.
        """
        bindings.backups(service)
        if (known := await _remote_calls.of_host(service, self.clients.clock.now() - since)) is not None:
            return known
        there = parameters.batch in await bindings.volume(service).batches()
        happened, word = (EffectStatus.NO, "still") if there else (EffectStatus.YES, "no longer")
        return Observation(happened, f"batch {parameters.batch} is {word} in quarantine")
