"""Incidents: the runs whose alerts belong together. A run has the ID of its incident; an incident has notes."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, bindparam, exists, func, insert, or_, select, tuple_, update

from remediator.core.run import OPEN, Run, Status
from remediator.storage import Tx
from remediator.storage.column_types import Instant
from remediator.storage.prepared import Prepared
from remediator.storage.repositories import runs
from remediator.storage.schema import incident_notes
from remediator.storage.schema import runs as table

_ACTING = sorted(status.value for status in (Status.RUNNING, Status.UNKNOWN_OUTCOME, Status.VERIFYING))


@dataclass(frozen=True, slots=True)
class Note:
    """Something about an incident that people were not notified of."""

    run_id: str
    at: datetime
    text: str


def find_related(connection: Connection, targets: Collection[str], since: datetime) -> list[str]:
    """Return the incidents that a new run belongs to, the oldest first; empty if the run begins a new incident.

    Args:
        connection: to the store.
        targets: the target of the new run, and the services that it needs or that need it.
        since: a run that began and ended before is not related.
    """
    names = sorted(targets)
    parts = (names[start : start + _MOST_TARGETS] for start in range(0, len(names), _MOST_TARGETS))
    found = (connection.execute(_RELATED, {"targets": part, "since": since}).scalars() for part in parts)
    ids = list(dict.fromkeys(each for part in found for each in part))
    if len(ids) < 2:
        return ids
    began = (
        select(table.c.incident_id, func.min(table.c.created_at))
        .where(table.c.incident_id.in_(ids))
        .group_by(table.c.incident_id)
    )
    return [row[0] for row in sorted(connection.execute(began), key=lambda row: (row[1], row[0]))]


_MOST_TARGETS = 10_000
"""Databases limit the number of values in a statement."""
_SINCE = bindparam("since", type_=Instant)
_RELATED = Prepared(
    select(table.c.incident_id)
    .where(
        table.c.target.in_(bindparam("targets", expanding=True)),
        or_(table.c.created_at >= _SINCE, table.c.finished_at >= _SINCE, table.c.status.in_(_ACTING)),
    )
    .distinct()
)


def merge(tx: Tx, into: str, others: Collection[str]) -> None:
    """Make the runs of other incidents part of one, because a new run belongs to all of them."""
    if others:
        for place in (table, incident_notes):
            moved = update(place).where(place.c.incident_id.in_(list(others))).values(incident_id=into)
            tx.connection.execute(moved)


def list_runs(connection: Connection, incident_id: str) -> list[Run]:
    """Return the runs of an incident, oldest first."""
    ids = connection.execute(_IDS_OF, {"incident": incident_id}).scalars().all()
    found = (runs.get(connection, run_id) for run_id in ids)
    return [run for run in found if run is not None]


_IDS_OF = Prepared(
    select(table.c.id).where(table.c.incident_id == bindparam("incident")).order_by(table.c.created_at, table.c.id)
)


def list_recent(
    connection: Connection, limit: int, *, open_only: bool = False, before: tuple[datetime, str] | None = None
) -> list[Run]:
    """Return the newest run of each incident, the newest first.

    The runs are read in the order of their index, so that the time does not depend on the number of incidents.

    Args:
        connection: to the store.
        limit: maximum number of incidents.
        open_only: only incidents with an open run, or with alerts that are not over.
        before: only incidents whose newest run is before this (created_at, id).
    """
    newer = table.alias("newer")
    is_newest = ~exists().where(
        newer.c.incident_id == table.c.incident_id,
        tuple_(newer.c.created_at, newer.c.id) > tuple_(table.c.created_at, table.c.id),
    )
    statement = select(table.c.id).order_by(table.c.created_at.desc(), table.c.id.desc()).limit(limit)
    if before is not None:
        statement = statement.where(tuple_(table.c.created_at, table.c.id) < before)
    if open_only:
        chosen = (table.c.incident_open, table.c.status.in_(sorted(OPEN)))  # two queries: each has an index
        open_ids = {
            row for each in chosen for row in connection.execute(select(table.c.incident_id).where(each)).scalars()
        }
        statement = statement.where(table.c.incident_id.in_(open_ids))
    ids = connection.execute(statement.where(is_newest)).scalars().all()
    found = (runs.get(connection, run_id) for run_id in ids)
    return [run for run in found if run is not None]


def find_healed(connection: Connection, run: Run, since: datetime) -> Run | None:
    """Return the previous run of the same playbook and target, if it succeeded after ``since``; otherwise None."""
    asked = {"playbook": run.playbook, "target": run.target, "run": run.id}
    run_id = connection.execute(_BEFORE, asked).scalar()
    found = None if run_id is None else runs.get(connection, run_id)
    if found is None or found.status is not Status.SUCCEEDED or found.finished_at is None:
        return None
    return found if found.finished_at >= since else None


_BEFORE = Prepared(
    select(table.c.id)
    .where(
        table.c.playbook == bindparam("playbook"),
        table.c.target == bindparam("target"),
        table.c.id != bindparam("run"),
    )
    .order_by(table.c.created_at.desc(), table.c.id.desc())
    .limit(1)
)


def add_note(tx: Tx, run: Run, text: str) -> None:
    """Add a note to the incident of a run."""
    values = {"incident_id": run.incident_id, "run_id": run.id, "at": tx.now, "text": tx.redact(text)}
    tx.connection.execute(insert(incident_notes).values(**values))


def list_notes(connection: Connection, incident_id: str) -> list[Note]:
    """Return the notes of an incident, oldest first."""
    columns = (incident_notes.c.run_id, incident_notes.c.at, incident_notes.c.text)
    rows = connection.execute(
        select(*columns).where(incident_notes.c.incident_id == incident_id).order_by(incident_notes.c.id)
    )
    return [Note(*row) for row in rows]
