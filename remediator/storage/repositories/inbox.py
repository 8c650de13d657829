"""The inbox: notifications as they were acknowledged, waiting to be folded into episodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, delete, func, insert, select, update

from remediator.storage import TOPIC_NOTIFICATIONS, Tx, advisory_locks
from remediator.storage.schema import notifications as table


@dataclass(frozen=True, slots=True)
class Received:
    """One stored webhook body."""

    id: int
    received_at: datetime
    source: str
    body: bytes
    processed_alerts: int


def list_pending(tx: Tx, limit: int) -> list[Received]:
    """The oldest that wait, in order; replicas take turns, since order within one alert matters.

    Raises:
        Taken: it is another replica's turn.
    """
    advisory_locks.try_lock(tx.connection, advisory_locks.LOCK_INGEST)
    rows = tx.connection.execute(
        select(table.c.id, table.c.received_at, table.c.source, table.c.body, table.c.processed_alerts)
        .where(table.c.processed_at.is_(None))
        .order_by(table.c.id)
        .limit(limit)
    )
    return [Received(*row) for row in rows]


def add(tx: Tx, source: str, body: bytes) -> None:
    """One of our own making, in the caller's transaction."""
    tx.connection.execute(insert(table).values(received_at=tx.now, source=source, body=body))
    tx.notify(TOPIC_NOTIFICATIONS)


def mark_processed(tx: Tx, received: Sequence[Received]) -> None:
    """All alerts of these are folded now."""
    ids = [item.id for item in received]
    tx.connection.execute(update(table).where(table.c.id.in_(ids)).values(processed_at=tx.now))


def replace_body(tx: Tx, received: Received, body: bytes) -> None:
    """Keep it without the secrets that were in it."""
    tx.connection.execute(update(table).where(table.c.id == received.id).values(body=body))


def mark_partly_processed(tx: Tx, received: Received, alerts: int) -> None:
    """So many alerts of a long one are folded now; the rest waits for its turn."""
    tx.connection.execute(update(table).where(table.c.id == received.id).values(processed_alerts=alerts))


def delete_processed(tx: Tx, before: datetime, limit: int = 500) -> int:
    """Forget taken ones from before then, a bounded number; returns how many."""
    old = select(table.c.id).where(table.c.received_at < before, table.c.processed_at.is_not(None))
    chosen = old.order_by(table.c.received_at).limit(limit)
    return tx.connection.execute(delete(table).where(table.c.id.in_(chosen.scalar_subquery()))).rowcount


def count_pending(connection: Connection) -> int:
    """How many wait to be taken in."""
    return connection.execute(select(func.count()).where(table.c.processed_at.is_(None))).scalar_one()


def list_received_between(connection: Connection, start: datetime, end: datetime) -> list[Received]:
    """All that were acknowledged in this time and are still kept, in order."""
    rows = connection.execute(
        select(table.c.id, table.c.received_at, table.c.source, table.c.body, table.c.processed_alerts)
        .where(table.c.received_at >= start, table.c.received_at <= end)
        .order_by(table.c.received_at, table.c.id)
    )
    return [Received(*row) for row in rows]
