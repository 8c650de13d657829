"""Runs that nothing moves on: stuck, or of a version that is not running here."""

from __future__ import annotations

from datetime import datetime
from itertools import pairwise
from typing import Any

from sqlalchemy import Connection, Select, func, or_, select

from remediator.audit import Kind
from remediator.records import runs
from remediator.run import ENGINE_VERSION, TRANSITIONS, Run, Status
from remediator.stores.schema import audit
from remediator.stores.schema import runs as table

_MOVING = (Status.MATCHED.value, Status.PLANNED.value, Status.UNKNOWN_OUTCOME.value)


def stuck(connection: Connection, since: datetime, limit: int = 50) -> list[Run]:
    """Open runs that have been due since before then and were not taken, or that change their state by themselves and
    have not for so long."""
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


def foreign(connection: Connection, limit: int = 50) -> list[Run]:
    """Open runs that this version cannot go on with: of a newer engine, or in a state that it does not know."""
    later = table.c.wake_at.is_not(None) & (table.c.engine_version > ENGINE_VERSION)
    known = sorted(TRANSITIONS)
    between = [(table.c.status > low) & (table.c.status < high) for low, high in pairwise(known)]
    unknown = or_(table.c.status < known[0], *between, table.c.status > known[-1])  # each by the index, unlike NOT IN
    return _found(connection, select(table.c.id).where(table.c.finished_at.is_(None), later | unknown), limit)


def _found(connection: Connection, ids: Select[Any], limit: int) -> list[Run]:
    found = (runs.get(connection, run_id) for run_id in connection.execute(ids.limit(limit)).scalars().all())
    return [run for run in found if run is not None]
