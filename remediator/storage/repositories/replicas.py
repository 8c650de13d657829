"""The remediator processes that share a store: who they are, and when each was last heard of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, delete, insert, select, update

from remediator.storage import Tx
from remediator.storage.schema import replicas as table

_FORGOTTEN = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Replica:
    """One process."""

    id: str
    version: str
    engine_version: int
    role: str
    started_at: datetime
    seen_at: datetime
    rejected_config: Sequence[str] | None = None
    """Why this replica cannot use the playbook files as they are now; None while they are in use."""


def record_heartbeat(tx: Tx, id_: str, version: str, engine_version: int, role: str) -> None:
    """It lives."""
    changed = tx.connection.execute(update(table).where(table.c.id == id_).values(seen_at=tx.now)).rowcount
    if not changed:
        values = {"id": id_, "version": version, "engine_version": engine_version, "role": role}
        tx.connection.execute(insert(table).values(started_at=tx.now, seen_at=tx.now, **values))
        tx.connection.execute(delete(table).where(table.c.seen_at < tx.now - _FORGOTTEN))


def touch(tx: Tx, id_: str) -> None:
    """It was asked, and writes."""
    tx.connection.execute(update(table).where(table.c.id == id_).values(seen_at=tx.now))


def remove(tx: Tx, id_: str) -> None:
    """It ends in peace."""
    tx.connection.execute(delete(table).where(table.c.id == id_))


def list_alive(connection: Connection, since: datetime) -> list[Replica]:
    """Those heard of since then."""
    return [Replica(*row) for row in connection.execute(select(table).where(table.c.seen_at >= since))]


def list_all(connection: Connection) -> list[Replica]:
    """All replicas that reported within the last seven days."""
    return [Replica(*row) for row in connection.execute(select(table).order_by(table.c.id))]


def set_rejected_config(tx: Tx, id_: str, findings: Sequence[str] | None) -> None:
    """Record why this replica cannot use the playbook files; None when it uses them."""
    tx.connection.execute(update(table).where(table.c.id == id_).values(rejected_config=findings))


def clear_rejected_config(tx: Tx, before: datetime) -> None:
    """Delete what replicas that stopped before then recorded about files they could not use."""
    tx.connection.execute(update(table).where(table.c.seen_at < before).values(rejected_config=None))
