"""Stops: their scope, person, reason and end. Only a person or the expiry ends a stop."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, bindparam, or_, select, update

from remediator.audit import Draft, Kind
from remediator.storage import TOPIC_RUNS, Tx, advisory_locks
from remediator.storage.column_types import Instant
from remediator.storage.prepared import Prepared, insert_or_update
from remediator.storage.repositories import blocked_runs
from remediator.storage.schema import stops as table

SCOPES = ("global", "playbook", "service")


@dataclass(frozen=True, slots=True)
class Stop:
    """A stop of everything, of a playbook or of a service."""

    id: str
    scope: str
    name: str
    reason: str
    created_by: str
    created_at: datetime
    expires_at: datetime | None
    released_at: datetime | None
    released_by: str | None

    @property
    def subject(self) -> str:
        """Return the scope of the stop as text."""
        return "everything" if self.scope == "global" else f"{self.scope} {self.name}"

    def applies_to(self, playbook: str, service: str) -> bool:
        """Return whether it stops this playbook on this service."""
        return self.scope == "global" or {"playbook": playbook, "service": service}.get(self.scope) == self.name


def create(
    tx: Tx, stop_id: str, scope: str, name: str, reason: str, who: str, expires_at: datetime | None = None
) -> bool:
    """Create a stop: from its commit on, no action starts in its scope.

    Returns:
        False if there is a stop of this ID already, which is unchanged. Another replica may have created it since
        this transaction looked.
    """
    # An intent whose guards did not see this stop must not be committed after it.
    advisory_locks.lock(tx.connection, advisory_locks.LOCK_INTENT)
    reason = tx.redact(reason)
    values = {
        "id": stop_id,
        "scope": scope,
        "name": name,
        "reason": reason,
        "created_by": who,
        "expires_at": expires_at,
    }
    statement = insert_or_update(tx.connection.dialect.name, table, ("id",))
    if not tx.connection.execute(statement, {"created_at": tx.now, **values}).rowcount:
        return False
    until = None if expires_at is None else expires_at.isoformat()
    data = {"stop": stop_id, "scope": scope, "name": name, "reason": reason, "expires_at": until}
    tx.append_audit(Draft(kind=Kind.STOP_SET, actor=who, data=data))
    tx.notify(TOPIC_RUNS)
    return True


def release(tx: Tx, stop_id: str, who: str) -> bool:
    """Release a stop. Return False if it is not active."""
    changed = tx.connection.execute(
        update(table)
        .where(table.c.id == stop_id, table.c.released_at.is_(None))
        .values(released_at=tx.now, released_by=who)
    ).rowcount
    if changed:
        tx.append_audit(Draft(kind=Kind.STOP_CLEARED, actor=who, data={"stop": stop_id}))
        blocked_runs.schedule_now(tx, ["kill_switch"])
    return bool(changed)


def get(connection: Connection, stop_id: str) -> Stop | None:
    """Return a stop by its ID, active or not, or None."""
    row = connection.execute(select(table).where(table.c.id == stop_id)).first()
    return None if row is None else Stop(**row._asdict())


def list_active(connection: Connection, now: datetime) -> list[Stop]:
    """Return the active stops, oldest first."""
    return [Stop(**row._asdict()) for row in connection.execute(_ACTIVE, {"now": now})]


_ACTIVE = Prepared(
    select(table)
    .where(
        table.c.released_at.is_(None),
        or_(table.c.expires_at.is_(None), table.c.expires_at > bindparam("now", type_=Instant)),
    )
    .order_by(table.c.created_at)
)
