"""Target locks: at most one run acts on a target at a time (promise 4)."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, select, update

from remediator.audit import Kind
from remediator.core.run import Run
from remediator.storage import Tx
from remediator.storage.prepared import Prepared
from remediator.storage.repositories.runs import COLUMNS, draft, from_row
from remediator.storage.schema import attempts
from remediator.storage.schema import runs as table


def may_still_act(connection: Connection, run_id: str) -> bool:
    """Return whether a call of the run may still take effect. Only a person can exclude that, so the lock stays."""
    return connection.execute(_UNCLEAR, {"run": run_id}).first() is not None


_UNCLEAR = Prepared(
    select(attempts.c.id).where(
        attempts.c.run_id == bindparam("run"), attempts.c.outcome.is_(None) | (attempts.c.outcome == "unknown")
    )
)


def release_target(tx: Tx, run_id: str, who: str, reason: str) -> bool:
    """Release the target lock of an ended run, as a person requests. Return False if it holds no lock."""
    row = tx.connection.execute(
        update(table)
        .where(table.c.id == run_id, table.c.holds_target, table.c.finished_at.is_not(None))
        .values(holds_target=False)
        .returning(*COLUMNS)
    ).first()
    if row is not None:
        tx.append_audit(draft(Kind.RUN_RELEASED, from_row(row), who, {"target": row.target}, reason))
    return row is not None


def lock_holder(connection: Connection, target: str, other_than: str) -> str | None:
    """Return the ID of another run that holds the lock of a target, or None."""
    return connection.execute(_LOCK_HOLDER, {"target": target, "other_than": other_than}).scalar()


_LOCK_HOLDER = Prepared(
    select(table.c.id).where(
        table.c.target == bindparam("target"), table.c.holds_target, table.c.id != bindparam("other_than")
    )
)


@dataclass(frozen=True, slots=True)
class ActingRun:
    """A run that acts on its target, or holds its lock."""

    id: str
    target: str
    playbook: str


def list_locks(connection: Connection) -> list[ActingRun]:
    """Return the runs that hold a target lock, without their plans."""
    return [ActingRun(*row) for row in connection.execute(_LOCKS)]


_LOCKS = Prepared(select(table.c.id, table.c.target, table.c.playbook).where(table.c.holds_target))


def list_lock_holders(connection: Connection) -> list[Run]:
    """Return the runs that hold a target lock."""
    return [from_row(row) for row in connection.execute(_LOCK_HOLDERS)]


_LOCK_HOLDERS = Prepared(select(*COLUMNS).where(table.c.holds_target))
