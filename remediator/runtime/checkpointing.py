"""Sign the size and the root of the audit log regularly, and publish the checkpoint where it cannot be rewritten."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog
from sqlalchemy import Connection

from remediator.audit import Draft, Head, Kind
from remediator.audit import checkpoint as checkpoints
from remediator.audit.signed_note import Signer
from remediator.core import progress
from remediator.core.clock import rfc3339
from remediator.errors import AuditError
from remediator.extensions.witnesses.base import Witness, WitnessError
from remediator.pipeline.context import PipelineContext
from remediator.storage import Tx
from remediator.storage.repositories import audit, key_values

log: Any = structlog.get_logger("remediator.runtime.checkpointing")

LATEST_CHECKPOINT = "checkpoint"
"""Name of the stored value with the newest signed checkpoint."""
POLL = 2.0
"""Seconds between two checks of the size of the log."""
PUBLISH_TIMEOUT = 60.0
"""Seconds that one witness may take."""
_OWN_ENTRIES = 8
"""A checkpoint appends entries about itself; so few new entries need no further checkpoint."""


@dataclass(frozen=True, slots=True)
class CheckpointSettings:
    """When to sign, with which key, and where to publish.

    Args:
        origin: the name of this log in its checkpoints.
        signer: the key.
        witnesses: where checkpoints are published, by name.
        entries: sign when the log has grown by this many entries.
        interval: sign after this time if there are new entries.
    """

    origin: str
    signer: Signer
    witnesses: Mapping[str, Witness]
    entries: int
    interval: timedelta
    on_result: Callable[[str, str], None] = lambda witness, error: None
    """Called after each try with the witness and the error, which is empty if the checkpoint was published."""


async def run_checkpoint_loop(context: PipelineContext, settings: CheckpointSettings) -> None:
    """Create checkpoints by number of entries and by time, only if there are new entries."""
    while True:
        head, signed_size, signed_at = await context.store.read(_state)
        grown = head.seq - signed_size
        late = context.clock.now() - signed_at >= settings.interval
        if grown >= settings.entries or (grown > _OWN_ENTRIES and late):
            await create_checkpoint(context, settings, head)
        progress.report(POLL)
        await context.clock.sleep(POLL)


def _state(connection: Connection) -> tuple[Head, int, datetime]:
    head = audit.get_head(connection)
    stored = key_values.get(connection, LATEST_CHECKPOINT)
    if stored is None:
        return head, 0, datetime.min.replace(tzinfo=UTC)
    return head, int(stored.value["size"]), stored.at


async def create_checkpoint(context: PipelineContext, settings: CheckpointSettings, head: Head) -> None:
    """Sign the log up to ``head``, store the checkpoint, and publish it to each witness.

    A failure to publish is recorded in the log as well.
    """
    note = checkpoints.sign(settings.origin, head, [settings.signer])

    def store(tx: Tx) -> None:
        key_values.set(tx, LATEST_CHECKPOINT, {"size": head.seq, "note": note, "at": rfc3339(tx.now)})
        data = {"size": head.seq, "root": head.root().hex(), "note": note}
        tx.append_audit(Draft(kind=Kind.CHECKPOINT_SIGNED, actor=context.actor, data=data))

    await context.store.write(store)
    for name, witness in settings.witnesses.items():
        data: dict[str, Any] = {"witness": name, "size": head.seq}
        try:
            async with asyncio.timeout(PUBLISH_TIMEOUT):
                kind, data["where"] = Kind.CHECKPOINT_PUBLISHED, await witness.publish(note)
        except Exception as error:  # a witness that fails or hangs must not keep the others from the checkpoint
            message = str(error) or f"no answer within {PUBLISH_TIMEOUT:g} s"
            if not isinstance(error, (WitnessError, AuditError, TimeoutError)):
                log.exception("internal error of a witness", witness=name)
            log.warning("checkpoint not published", witness=name, message=message)
            settings.on_result(name, message)
            kind, data["message"] = Kind.CHECKPOINT_FAILED, message
        else:
            settings.on_result(name, "")
        progress.report(PUBLISH_TIMEOUT)
        draft = Draft(kind=kind, actor=context.actor, data=data)
        await context.store.write(lambda tx, draft=draft: tx.append_audit(draft))  # type: ignore[misc]
