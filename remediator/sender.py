"""Sending what waits in the outbox: retried with growing pauses, given up at last, and never forgotten silently."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from remediator.audit import Draft, Kind
from remediator.engine import Engine
from remediator.errors import RemediatorError
from remediator.notifiers import Message, Notifier
from remediator.records import messages
from remediator.records.messages import Queued
from remediator.stores import MESSAGES, Tx

TRIES = 8
FIRST_PAUSE = timedelta(seconds=2)
PATIENCE = timedelta(seconds=60)
"""How long one delivery may take before another replica tries."""


async def send_forever(engine: Engine, channels: Mapping[str, Notifier], fallback: Notifier, poll: float) -> None:
    """Deliver messages as they come."""
    while True:
        due = await engine.store.read(lambda connection: messages.due(connection, engine.clock.now()))
        for message in due:
            await _deliver(engine, channels, fallback, message)
        if not due:
            await engine.store.wakeups.wait(MESSAGES, poll)


async def _deliver(engine: Engine, channels: Mapping[str, Notifier], fallback: Notifier, queued: Queued) -> None:
    if not await engine.store.write(lambda tx: messages.hold(tx, queued, tx.now + PATIENCE)):
        return  # another replica has it
    notifier = channels.get(queued.channel, fallback)
    message = Message(queued.id, queued.run_id, queued.kind, _title(queued), queued.content)
    try:
        delivery = await notifier.send(message)
    except RemediatorError as error:
        told = str(error)
        await engine.store.write(lambda tx: _failed(tx, engine, queued, told))
        return
    await engine.store.write(lambda tx: _sent(tx, engine, queued, delivery.receipt))


def _title(queued: Queued) -> str:
    return f"{queued.kind} for {queued.channel}: run {queued.run_id}"


def _sent(tx: Tx, engine: Engine, queued: Queued, receipt: Mapping[str, Any]) -> None:
    messages.sent(tx, queued.id, receipt)
    tx.audit(_draft(engine, Kind.MESSAGE_SENT, queued, {"receipt": receipt}))


def _failed(tx: Tx, engine: Engine, queued: Queued, error: str) -> None:
    tries = queued.attempts + 1
    again = None if tries >= TRIES else tx.now + FIRST_PAUSE * 2 ** (tries - 1)
    messages.failed(tx, queued.id, error, again)
    tx.audit(_draft(engine, Kind.MESSAGE_FAILED, queued, {"error": error, "given_up": again is None}))


def _draft(engine: Engine, kind: Kind, queued: Queued, data: Mapping[str, Any]) -> Draft:
    about = {"message": queued.id, "channel": queued.channel, "kind": queued.kind}
    return Draft(kind=kind, actor=engine.actor, run=queued.run_id, data={**about, **data})
