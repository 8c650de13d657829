"""The replicas that share a store, and the time of their last heartbeat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from remediator.storage import Tx
from remediator.storage.column_types import Instant
from remediator.storage.prepared import Prepared
from remediator.storage.schema import replicas as table

_DELETE_AFTER = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Replica:
    """One replica."""

    id: str
    version: str
    engine_version: int
    role: str
    started_at: datetime
    seen_at: datetime
    rejected_config: Sequence[str] | None = None
    """The reasons why this replica cannot use the current playbook files; None while it uses them."""
    problems: Mapping[str, str] | None = None
    """The problems of this replica, by their subject; None before the first check."""
    instance: str | None = None
    """Identifies the process that last started with this ID."""


def record_heartbeat(tx: Tx, id_: str, version: str, engine_version: int, role: str) -> None:
    """Record a heartbeat of a replica; delete replicas without a heartbeat for seven days."""
    changed = tx.connection.execute(_TOUCH, {"its_id": id_, "now": tx.now}).rowcount
    if not changed:
        values = {"id": id_, "version": version, "engine_version": engine_version, "role": role}
        tx.connection.execute(_INSERT, {"started_at": tx.now, "seen_at": tx.now, **values})
        tx.connection.execute(_DELETE_OLD, {"before": tx.now - _DELETE_AFTER})


_INSERT = Prepared(insert(table))
_DELETE_OLD = Prepared(delete(table).where(table.c.seen_at < bindparam("before", type_=Instant)))


def touch(tx: Tx, id_: str) -> None:
    """Update the last heartbeat of a replica."""
    tx.connection.execute(_TOUCH, {"its_id": id_, "now": tx.now})


_TOUCH = Prepared(
    update(table).where(table.c.id == bindparam("its_id")).values(seen_at=bindparam("now", type_=Instant))
)


def list_alive(connection: Connection, since: datetime) -> list[Replica]:
    """Return the replicas with a heartbeat since then."""
    return [Replica(*row) for row in connection.execute(select(table).where(table.c.seen_at >= since))]


def list_all(connection: Connection) -> list[Replica]:
    """Return all replicas, ordered by ID."""
    return [Replica(*row) for row in connection.execute(select(table).order_by(table.c.id))]


def set_rejected_config(tx: Tx, id_: str, findings: Sequence[str] | None) -> None:
    """Record why a replica cannot use the current playbook files; None if it does."""
    tx.connection.execute(update(table).where(table.c.id == id_).values(rejected_config=findings))


def set_instance(tx: Tx, id_: str, instance: str) -> None:
    """Record which process uses the ID of a replica now."""
    tx.connection.execute(update(table).where(table.c.id == id_).values(instance=instance))


def get_instance(connection: Connection, id_: str) -> str | None:
    """Return which process last started with the ID of a replica."""
    found: str | None = connection.execute(select(table.c.instance).where(table.c.id == id_)).scalar()
    return found


def set_problems(tx: Tx, id_: str, problems: Mapping[str, str]) -> None:
    """Record the problems of a replica, by their subject."""
    tx.connection.execute(update(table).where(table.c.id == id_).values(problems=problems))


def clear_rejected_config(tx: Tx, before: datetime) -> None:
    """Delete the rejected_config of replicas without a heartbeat since then."""
    tx.connection.execute(update(table).where(table.c.seen_at < before).values(rejected_config=None))
