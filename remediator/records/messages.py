"""Messages to people: written with the transition that they tell of, sent afterwards, kept until sent or dead."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from remediator.ids import Ids
from remediator.run import Run
from remediator.stores import MESSAGES, Tx
from remediator.stores.schema import messages as table


@dataclass(frozen=True, slots=True)
class Queued:
    """One message to one channel."""

    id: str
    run_id: str | None
    channel: str
    kind: str
    content: Mapping[str, Any]
    status: str
    attempts: int
    created_at: datetime
    next_at: datetime | None
    sent_at: datetime | None
    receipt: Mapping[str, Any] | None
    error: str | None


def tell(tx: Tx, ids: Ids, kind: str, run: Run | None, content: Mapping[str, Any], channels: Sequence[str]) -> None:
    """Queue one message for each channel; the sender resolves what they are."""
    for channel in channels:
        tx.connection.execute(
            insert(table).values(
                id=ids.new("message", tx.now),
                run_id=None if run is None else run.id,
                channel=channel,
                kind=kind,
                content=tx.clean(dict(content)),
                status="waiting",
                created_at=tx.now,
                next_at=tx.now,
            )
        )
    if channels:
        tx.wake(MESSAGES)


def due(connection: Connection, now: datetime, limit: int = 20) -> list[Queued]:
    """Those to be tried now, the longest waiting first."""
    rows = connection.execute(
        select(table).where(table.c.status == "waiting", table.c.next_at <= now).order_by(table.c.next_at).limit(limit)
    )
    return [_queued(row) for row in rows]


def hold(tx: Tx, message: Queued, until: datetime) -> bool:
    """Take a message for one try: nobody else tries before ``until``. False if another replica was first."""
    return bool(
        tx.connection.execute(
            update(table)
            .where(table.c.id == message.id, table.c.status == "waiting", table.c.attempts == message.attempts)
            .values(attempts=table.c.attempts + 1, next_at=until)
        ).rowcount
    )


def sent(tx: Tx, message_id: str, receipt: Mapping[str, Any]) -> None:
    """It was delivered."""
    values = {"status": "sent", "sent_at": tx.now, "receipt": dict(receipt), "next_at": None, "error": None}
    tx.connection.execute(update(table).where(table.c.id == message_id).values(**values))


def failed(tx: Tx, message_id: str, error: str, again_at: datetime | None) -> None:
    """It was not; try again then, or never: then it stands on the dead-letter list."""
    status = "dead" if again_at is None else "waiting"
    values = {"status": status, "error": error, "next_at": again_at}
    tx.connection.execute(update(table).where(table.c.id == message_id).values(**values))


def of_run(connection: Connection, run_id: str) -> list[Queued]:
    """All about a run, in order."""
    rows = connection.execute(select(table).where(table.c.run_id == run_id).order_by(table.c.created_at, table.c.id))
    return [_queued(row) for row in rows]


def list_dead(connection: Connection, limit: int = 100) -> list[Queued]:
    """Those given up, newest first."""
    statement = select(table).where(table.c.status == "dead").order_by(table.c.created_at.desc()).limit(limit)
    return [_queued(row) for row in connection.execute(statement)]


def _queued(row: Row[Any]) -> Queued:
    return Queued(**row._mapping)
