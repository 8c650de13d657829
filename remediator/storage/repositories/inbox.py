"""The inbox: acknowledged notifications that wait to be processed into episodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Integer, bindparam, delete, func, insert, select, update

from remediator.storage import TOPIC_NOTIFICATIONS, Tx, advisory_locks
from remediator.storage.column_types import Instant
from remediator.storage.prepared import Prepared
from remediator.storage.schema import notifications as table


@dataclass(frozen=True, slots=True)
class Received:
    """A stored notification."""

    id: int
    received_at: datetime
    source: str
    body: bytes
    processed_alerts: int
    asked_at: datetime | None = None
    """When the source was asked, for a notification of the reconcile loop; its body is in Alertmanager's format."""


def list_pending(tx: Tx, limit: int) -> list[Received]:
    """Return the oldest pending notifications, in order. Only one replica processes at a time, because order matters.

    Raises:
        LockUnavailable: another replica processes notifications.
    """
    advisory_locks.try_lock(tx.connection, advisory_locks.LOCK_INGEST)
    return [Received(*row) for row in tx.connection.execute(_PENDING, {"most": limit})]


_COLUMNS = (
    table.c.id,
    table.c.received_at,
    table.c.source,
    table.c.body,
    table.c.processed_alerts,
    table.c.asked_at,
)
_PENDING = Prepared(
    select(*_COLUMNS).where(table.c.processed_at.is_(None)).order_by(table.c.id).limit(bindparam("most", type_=Integer))
)


def add(tx: Tx, source: str, body: bytes, asked_at: datetime | None = None) -> None:
    """Add a notification that the remediator created, in the caller's transaction.

    Args:
        source: name of the source.
        body: a notification in Alertmanager's format.
        asked_at: the time of the query of the source.
    """
    tx.connection.execute(insert(table).values(received_at=tx.now, source=source, body=body, asked_at=asked_at))
    tx.notify(TOPIC_NOTIFICATIONS)


def mark_processed(tx: Tx, received: Sequence[Received]) -> None:
    """Record that all alerts of these notifications are processed."""
    if received:
        tx.connection.execute(_PROCESSED, {"ids": [item.id for item in received], "at": tx.now})


_PROCESSED = Prepared(
    update(table)
    .where(table.c.id.in_(bindparam("ids", expanding=True)))
    .values(processed_at=bindparam("at", type_=Instant))
)


def replace_body(tx: Tx, received: Received, body: bytes) -> None:
    """Replace the body by one without secrets."""
    tx.connection.execute(update(table).where(table.c.id == received.id).values(body=body))


def mark_partly_processed(tx: Tx, received: Received, alerts: int) -> None:
    """Record how many alerts of a long notification are processed; the other alerts stay pending."""
    tx.connection.execute(_PARTLY_PROCESSED, {"its_id": received.id, "alerts": alerts})


_PARTLY_PROCESSED = Prepared(
    update(table).where(table.c.id == bindparam("its_id")).values(processed_alerts=bindparam("alerts"))
)


def delete_processed(tx: Tx, before: datetime) -> None:
    """Delete up to 500 processed notifications from before then."""
    tx.connection.execute(_DELETE, {"before": before})


_OLD = (
    select(table.c.id)
    .where(table.c.received_at < bindparam("before", type_=Instant), table.c.processed_at.is_not(None))
    .order_by(table.c.received_at)
    .limit(500)
)
_DELETE = Prepared(delete(table).where(table.c.id.in_(_OLD.scalar_subquery())))


def oldest_pending(connection: Connection) -> tuple[int, int] | None:
    """Return the ID of the oldest pending notification and how many of its alerts are processed; None: no pending."""
    row = connection.execute(_OLDEST_PENDING).first()
    return None if row is None else (row.id, row.processed_alerts)


def count_pending(connection: Connection) -> int:
    """Return the number of pending notifications."""
    return int(connection.execute(_COUNT_PENDING).scalar_one())


_IS_PENDING = table.c.processed_at.is_(None)
_OLDEST_PENDING = Prepared(
    select(table.c.id, table.c.processed_alerts).where(_IS_PENDING).order_by(table.c.id).limit(1)
)
_COUNT_PENDING = Prepared(select(func.count()).where(_IS_PENDING))


def list_received_between(connection: Connection, start: datetime, end: datetime) -> list[Received]:
    """Return the notifications that were received in this period and are still stored, oldest first."""
    rows = connection.execute(
        select(*_COLUMNS)
        .where(table.c.received_at >= start, table.c.received_at <= end)
        .order_by(table.c.received_at, table.c.id)
    )
    return [Received(*row) for row in rows]
