"""Results of earlier runs that acted, for the guards ramp and circuit_breaker."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, bindparam, select

from remediator.core.run import TERMINAL, Status
from remediator.storage.schema import Instant
from remediator.storage.schema import runs as table


@dataclass(frozen=True, slots=True)
class RunResult:
    """A run that acted, and its result."""

    id: str
    target: str
    began: datetime
    """Its first action."""
    ended: datetime | None
    healed: bool | None
    """None while it is open or if it was cancelled, because neither says anything about the remedy."""


_HEALED = {Status.SUCCEEDED.value: True, Status.FAILED.value: False, Status.ESCALATED.value: False}
_OVER = {status.value for status in TERMINAL}


def list_acted_since(connection: Connection, playbook: str, since: datetime) -> list[RunResult]:
    """Return the runs of a playbook that acted since then and were not cancelled, oldest first."""
    rows = connection.execute(_ACTED_SINCE, {"playbook": playbook, "since": since})
    return [
        RunResult(row.id, row.target, row.first_action_at, row.finished_at, _HEALED.get(row.status))
        for row in rows
        if row.status not in _OVER or row.status in _HEALED
    ]


_ACTED_SINCE = (
    select(table.c.id, table.c.target, table.c.first_action_at, table.c.finished_at, table.c.status)
    .where(table.c.playbook == bindparam("playbook"), table.c.first_action_at >= bindparam("since", type_=Instant))
    .order_by(table.c.first_action_at, table.c.id)
)
