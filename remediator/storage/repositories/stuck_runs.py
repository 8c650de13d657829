"""Runs that do not advance: stuck, or written by an engine version that does not run here."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, bindparam, func, or_, select, update

from remediator.audit import Kind
from remediator.core.run import ENGINE_VERSION, TRANSITIONS, Run, Status
from remediator.storage import Tx
from remediator.storage.column_types import Instant
from remediator.storage.prepared import Prepared
from remediator.storage.repositories import runs
from remediator.storage.schema import audit
from remediator.storage.schema import runs as table

_MOVING = (Status.MATCHED.value, Status.PLANNED.value, Status.UNKNOWN_OUTCOME.value)


def list_stuck(connection: Connection, since: datetime) -> list[Run]:
    """Return up to 50 open runs that have been due since before ``since``, or should have changed status since."""
    return _found(connection, _STUCK, {"since": since})


_SINCE = bindparam("since", type_=Instant)
_MOVED = (
    select(func.max(audit.c.at))
    .where(audit.c.run_id == table.c.id, audit.c.kind.in_((Kind.RUN_TRANSITION.value, Kind.RUN_MATCHED.value)))
    .scalar_subquery()
)
_IS_STUCK = (table.c.wake_at < _SINCE) | (table.c.status.in_(_MOVING) & (_MOVED < _SINCE))
_MOST = 50
_STUCK = Prepared(select(table.c.id).where(table.c.finished_at.is_(None), _IS_STUCK).limit(_MOST))


def mark_reported(tx: Tx, run: Run) -> bool:
    """Record that the run was reported as stuck in its status; False if it was reported before."""
    new = or_(table.c.stuck_reported.is_(None), table.c.stuck_reported != run.status.value)
    reported = update(table).where(table.c.id == run.id, new).values(stuck_reported=run.status.value)
    return bool(tx.connection.execute(reported).rowcount)


def list_unsupported(connection: Connection) -> list[Run]:
    """Return open runs that this version cannot process: up to 50 of a newer engine and 50 in an unknown status."""
    # skip from value to value in the index
    words: list[str] = []
    while word := connection.execute(_NEXT_STATUS, {"word": words[-1] if words else ""}).scalar():
        words.append(word)
    strange = {"unknown": [word for word in words if word not in set(TRANSITIONS)]}
    return [*_found(connection, _NEWER, {}), *_found(connection, _STRANGE, strange)]


_NEWER = Prepared(
    select(table.c.id).where(table.c.wake_at.is_not(None), table.c.engine_version > ENGINE_VERSION).limit(_MOST)
)
_STRANGE = Prepared(
    select(table.c.id)
    .where(table.c.status.in_(bindparam("unknown", expanding=True)), table.c.finished_at.is_(None))
    .limit(_MOST)
)


_NEXT_STATUS = Prepared(select(func.min(table.c.status)).where(table.c.status > bindparam("word")))


def _found(connection: Connection, ids: Prepared, values: Mapping[str, Any]) -> list[Run]:
    found = (runs.get(connection, run_id) for run_id in connection.execute(ids, values).scalars())
    return [run for run in found if run is not None]
