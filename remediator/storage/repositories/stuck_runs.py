"""Runs that do not advance: stuck, or written by an engine version that does not run here."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Select, bindparam, func, or_, select, update

from remediator.audit import Kind
from remediator.core.run import ENGINE_VERSION, TRANSITIONS, Run, Status
from remediator.storage import Tx
from remediator.storage.repositories import runs
from remediator.storage.schema import audit
from remediator.storage.schema import runs as table

_MOVING = (Status.MATCHED.value, Status.PLANNED.value, Status.UNKNOWN_OUTCOME.value)


def list_stuck(connection: Connection, since: datetime, limit: int = 50) -> list[Run]:
    """Return open runs that have been due since before ``since``, or that should have changed their status since."""
    late = table.c.wake_at < since
    moved = (
        select(func.max(audit.c.at))
        .where(audit.c.run_id == table.c.id, audit.c.kind.in_((Kind.RUN_TRANSITION.value, Kind.RUN_MATCHED.value)))
        .scalar_subquery()
    )
    moving = table.c.status.in_(_MOVING)
    return _found(
        connection, select(table.c.id).where(table.c.finished_at.is_(None), late | (moving & (moved < since))), limit
    )


def mark_reported(tx: Tx, run: Run) -> bool:
    """Record that the run was reported as stuck in its status; False if it was reported before."""
    new = or_(table.c.stuck_reported.is_(None), table.c.stuck_reported != run.status.value)
    reported = update(table).where(table.c.id == run.id, new).values(stuck_reported=run.status.value)
    return bool(tx.connection.execute(reported).rowcount)


def list_unsupported(connection: Connection, limit: int = 50) -> list[Run]:
    """Return open runs that this version cannot process: of a newer engine, or in an unknown status."""
    newer = select(table.c.id).where(table.c.wake_at.is_not(None), table.c.engine_version > ENGINE_VERSION)
    strange = select(table.c.id).where(table.c.status.in_(_unknown_statuses(connection)), table.c.finished_at.is_(None))
    return [*_found(connection, newer, limit), *_found(connection, strange, limit)]


def _unknown_statuses(connection: Connection) -> list[str]:
    """Return the statuses in the table that this version does not know. It skips from value to value in the index."""
    words: list[str] = []
    following = select(func.min(table.c.status)).where(table.c.status > bindparam("word"))
    while word := connection.execute(following, {"word": words[-1] if words else ""}).scalar():
        words.append(word)
    return [word for word in words if word not in set(TRANSITIONS)]


def _found(connection: Connection, ids: Select[Any], limit: int) -> list[Run]:
    found = (runs.get(connection, run_id) for run_id in connection.execute(ids.limit(limit)).scalars().all())
    return [run for run in found if run is not None]
