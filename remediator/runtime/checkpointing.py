"""Signing the log's size and root every so often, and having it kept where the remediator cannot rewrite it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog

from remediator.audit import Draft, Head, Kind
from remediator.audit import checkpoint as checkpoints
from remediator.audit.signed_note import Signer
from remediator.core.clock import rfc3339
from remediator.errors import AuditError
from remediator.extensions.witnesses.base import Witness, WitnessError
from remediator.pipeline.context import PipelineContext
from remediator.storage import Tx
from remediator.storage.repositories import audit, key_values

log: Any = structlog.get_logger("remediator.runtime.checkpointing")

LATEST_CHECKPOINT = "checkpoint"
"""Name of the fact that holds the newest signed checkpoint."""
LOOK = 2.0
"""Seconds between looks at how far the log has grown."""


@dataclass(frozen=True, slots=True)
class CheckpointSettings:
    """When to sign, as whom, and who keeps it."""

    origin: str
    signer: Signer
    notaries: Mapping[str, Witness]
    every: int
    within: timedelta


async def run_checkpoint_loop(context: PipelineContext, settings: CheckpointSettings) -> None:
    """Sign when the log has grown by ``every`` entries, or at all within ``within``; never for nothing new."""
    while True:
        head, signed_to, at = await context.store.read(_standing)
        grown = head.seq - signed_to
        if grown >= settings.every or (grown > _OWN and context.clock.now() - at >= settings.within):
            await create_checkpoint(context, settings, head)
        await context.clock.sleep(LOOK)


_OWN = 8
"""A checkpoint writes entries about itself; so few new ones are no news."""


def _standing(connection: Any) -> tuple[Head, int, datetime]:
    head = audit.get_head(connection)
    fact = key_values.get(connection, LATEST_CHECKPOINT)
    if fact is None:
        return head, 0, datetime.min.replace(tzinfo=UTC)
    return head, int(fact.value["size"]), fact.at


async def create_checkpoint(context: PipelineContext, settings: CheckpointSettings, head: Head) -> None:
    """Sign the log as it ends at ``head``, remember it, and hand it to every notary; what fails is in the log too."""
    note = checkpoints.sign(settings.origin, head, [settings.signer])
    await context.store.write(lambda tx: _signed(tx, context, head, note))
    for name, notary in settings.notaries.items():
        try:
            where = await notary.publish(note)
        except (WitnessError, AuditError) as error:
            log.warning("a checkpoint was not kept", notary=name, message=str(error))
            await _tell(context, Kind.CHECKPOINT_FAILED, {"notary": name, "size": head.seq, "message": str(error)})
        else:
            await _tell(context, Kind.CHECKPOINT_PUBLISHED, {"notary": name, "size": head.seq, "where": where})


def _signed(tx: Tx, context: PipelineContext, head: Head, note: str) -> None:
    key_values.set(tx, LATEST_CHECKPOINT, {"size": head.seq, "note": note, "at": rfc3339(tx.now)})
    data = {"size": head.seq, "root": head.root().hex()}
    tx.append_audit(Draft(kind=Kind.CHECKPOINT_SIGNED, actor=context.actor, data=data))


async def _tell(context: PipelineContext, kind: Kind, data: Mapping[str, Any]) -> None:
    await context.store.write(lambda tx: tx.append_audit(Draft(kind=kind, actor=context.actor, data=data)))
