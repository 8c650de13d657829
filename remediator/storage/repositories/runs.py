"""Runs: creation, reading, and the events that make a run due."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, bindparam, exists, func, insert, select, tuple_, update

from remediator.audit import Draft, Kind
from remediator.core.plan import Plan
from remediator.core.run import ENGINE_VERSION, OPEN, Episode, Reason, Run, Status, decode_detail
from remediator.core.severity import DEFAULT, SEVERITIES, as_pagers_name_it, highest_severity
from remediator.storage import TOPIC_RUNS, Tx
from remediator.storage.column_types import Instant
from remediator.storage.prepared import Prepared
from remediator.storage.schema import episodes, run_episodes
from remediator.storage.schema import runs as table

OPEN_STATUSES = sorted(status.value for status in OPEN)
FIELDS = tuple(Run.__dataclass_fields__)
COLUMNS = tuple(table.c[name] for name in FIELDS)
"""The columns that a query of runs selects, in the order of :data:`FIELDS`."""


def from_row(row: Row[Any]) -> Run:
    """Return a row of :data:`COLUMNS` as a run."""
    values = dict(zip(FIELDS, row, strict=True))
    status = values["status"] = Status(values["status"])
    values["reason"] = None if values["reason"] is None else Reason(values["reason"])
    values["detail"] = decode_detail(status, values["detail"])
    values["plan"] = _plan(values["plan"])
    values["resume_to"] = Status(values["resume_to"]) if values["resume_to"] else None
    return Run(**values)


def _plan(data: Mapping[str, Any] | None) -> Plan | None:
    """Return the stored plan; None if another version wrote it in another form, so that the run can still be listed."""
    try:
        return None if data is None else Plan.from_data(data)
    except msgspec.ValidationError:
        return None


def create(
    tx: Tx,
    run_id: str,
    playbook: str,
    playbook_hash: str,
    target: str,
    mode: str,
    actor: str,
    incident_id: str = "",
    claim: tuple[str, timedelta] | None = None,
) -> Run:
    """Create a run in status ``matched``, due at once. Without an ``incident_id``, it begins an incident.

    Args:
        tx: the transaction.
        run_id: its ID.
        playbook: name of its playbook.
        playbook_hash: the version of the playbook.
        target: the service that it is for.
        mode: the autonomy mode.
        actor: this process, for the audit log.
        incident_id: the incident that it belongs to.
        claim: owner and length of a lease. The run is then claimed at once, and no other process is notified.

    Raises:
        sqlalchemy.exc.IntegrityError: the incident has a run already (unique index ``uq_runs_incident``).
    """
    owner, lease = claim if claim is not None else (None, None)
    values: dict[str, Any] = {
        "id": run_id,
        "incident_id": incident_id or f"incident-{run_id.removeprefix('run-')}",
        "status": Status.MATCHED.value,
        "detail": {},
        "playbook": playbook,
        "playbook_hash": playbook_hash,
        "target": target,
        "mode": mode,
        "engine_version": ENGINE_VERSION,
        "wake_at": tx.now,
        "incident_open": True,
        "holds_target": False,
        "created_at": tx.now,
        "updated_at": tx.now,
        "fence": 0 if lease is None else 1,
        "lease_owner": owner,
        "lease_until": None if lease is None else tx.now + lease,
    }
    run = from_row(tx.connection.execute(_CREATE, values).one())
    data = {"target": target, "mode": mode, "incident": run.incident_id}
    tx.append_audit(draft(Kind.RUN_MATCHED, run, actor, data))
    if lease is None:
        tx.notify(TOPIC_RUNS)
    return run


_CREATE = Prepared(insert(table).returning(*COLUMNS))


def add_episodes(tx: Tx, run_id: str, joining: Collection[Episode], *, created: bool = False) -> None:
    """Add episodes to a run, and raise its severity to theirs; episodes that it has already are ignored.

    Args:
        tx: the transaction.
        run_id: the run.
        joining: the episodes.
        created: this transaction has created the run, so that it has no episodes yet.
    """
    first = created or tx.connection.execute(_ANY_EPISODE, {"run": run_id}).first() is None
    ids = [item.id for item in joining]
    have = set() if first else set(tx.connection.execute(_KNOWN_EPISODES, {"run": run_id, "ids": ids}).scalars())
    rows = [{"run_id": run_id, "episode_id": one, "joined_at": tx.now} for one in ids if one not in have]
    if rows:
        tx.connection.execute(_ADD_EPISODES, rows)
        # Set the severity of a new run, or raise that of an older one. A new run has the default already.
        severity = highest_severity(item for item in joining if item.id not in have)
        if first and severity == DEFAULT:
            return
        lower = SEVERITIES if first else SEVERITIES[SEVERITIES.index(severity) + 1 :]
        if lower:
            tx.connection.execute(_RAISE_SEVERITY, {"run": run_id, "lower": lower, "new": severity})


_OF_RUN = select(run_episodes.c.episode_id).where(run_episodes.c.run_id == bindparam("run"))
_ANY_EPISODE = Prepared(_OF_RUN.limit(1))
_KNOWN_EPISODES = Prepared(_OF_RUN.where(run_episodes.c.episode_id.in_(bindparam("ids", expanding=True))))
_ADD_EPISODES = Prepared(insert(run_episodes))


_RAISE_SEVERITY = Prepared(
    update(table)
    .where(table.c.id == bindparam("run"), table.c.severity.in_(bindparam("lower", expanding=True)))
    .values(severity=bindparam("new"))
)


def get_open_incidents(connection: Connection, keys: Sequence[tuple[str, str]]) -> dict[tuple[str, str], Run]:
    """Return the runs of these (playbook, target) pairs whose incident is open."""
    found: dict[tuple[str, str], Run] = {}
    for start in range(0, len(keys), 400):
        for row in connection.execute(_OPEN_INCIDENTS, {"keys": keys[start : start + 400]}):
            found[row.playbook, row.target] = from_row(row)
    return found


_OPEN_INCIDENTS = Prepared(
    select(*COLUMNS).where(
        table.c.incident_open, tuple_(table.c.playbook, table.c.target).in_(bindparam("keys", expanding=True))
    )
)


def notify(tx: Tx, run_ids: Collection[str]) -> None:
    """Schedule these runs now, because an event concerns them, for example resolved, decided or cancelled."""
    ids = list(run_ids)
    for start in range(0, len(ids), 500):
        tx.connection.execute(_NOTIFY, {"ids": ids[start : start + 500], "now": tx.now})
    if ids:
        tx.notify(TOPIC_RUNS)


_IDS = table.c.id.in_(bindparam("ids", expanding=True))
_NOTIFY = Prepared(
    update(table)
    .where(_IDS, table.c.status.in_(OPEN_STATUSES))
    .values(wakeup_count=table.c.wakeup_count + 1, wake_at=bindparam("now", type_=Instant))
)


def request_cancel(tx: Tx, run_id: str, who: str, reason: str) -> bool:
    """Request to cancel a run: now while it waits, after the current step while it acts. Return False if it ended."""
    changed = tx.connection.execute(
        update(table)
        .where(table.c.id == run_id, table.c.status.in_(OPEN_STATUSES))
        .values(cancel_request={"who": who, "reason": reason})
    ).rowcount
    if changed:
        notify(tx, [run_id])
    return bool(changed)


def close_incident(tx: Tx, run_ids: Collection[str]) -> None:
    """Close the incidents of runs, because their alerts are closed. The next firing gets a new run."""
    if run_ids:
        tx.connection.execute(_CLOSE, {"ids": list(run_ids)})


_CLOSE = Prepared(update(table).where(_IDS).values(incident_open=False))


def close_orphaned_incidents(tx: Tx) -> None:
    """Close up to 100 incidents whose run and alerts have ended, in case :func:`close_incident` did not."""
    if ids := list(tx.connection.execute(_OVER).scalars()):
        close_incident(tx, ids)


_LIVING = exists().where(
    run_episodes.c.run_id == table.c.id, run_episodes.c.episode_id == episodes.c.id, episodes.c.status != "closed"
)
_OVER = Prepared(select(table.c.id).where(table.c.incident_open, table.c.finished_at.is_not(None), ~_LIVING).limit(100))


def mark_ineffective(tx: Tx, run_id: str) -> bool:
    """Mark a successful run as ineffective. Return False if it is marked already."""
    row = tx.connection.execute(select(table.c.detail).where(table.c.id == run_id).with_for_update()).one()
    if row.detail.get("ineffective"):
        return False
    tx.connection.execute(update(table).where(table.c.id == run_id).values(detail={**row.detail, "ineffective": True}))
    return True


def get(connection: Connection, run_id: str, *, lock: bool = False) -> Run | None:
    """Return a run by its ID, or None. ``lock`` its row until the end of the transaction."""
    row = connection.execute(_GET_LOCKED if lock else _GET, {"run": run_id}).first()
    return None if row is None else from_row(row)


_BY_ID = select(*COLUMNS).where(table.c.id == bindparam("run"))
_GET, _GET_LOCKED = Prepared(_BY_ID), Prepared(_BY_ID.with_for_update())


@dataclass(frozen=True, slots=True)
class RunFilter:
    """Which runs a list has; a field without a value selects all runs."""

    open_only: bool = False
    """Only runs that have not ended."""
    playbook: str | None = None
    target: str | None = None
    status: str | None = None
    severity: str | None = None
    """Only runs with this highest severity of their alerts."""
    since: datetime | None = None
    """Only runs that began then or later."""
    until: datetime | None = None
    """Only runs that began before."""


ALL = RunFilter()
OPEN_ONLY = RunFilter(open_only=True)


def list_page(
    connection: Connection, limit: int, before: tuple[datetime, str] | None = None, only: RunFilter = ALL
) -> list[Run]:
    """Return up to ``limit`` runs, newest first.

    Args:
        connection: to the store.
        limit: most runs to return.
        before: the (created_at, id) of the last run on the previous page.
        only: which runs.
    """
    statement = select(*COLUMNS).order_by(table.c.created_at.desc(), table.c.id.desc()).limit(limit)
    if before is not None:
        statement = statement.where(tuple_(table.c.created_at, table.c.id) < before)
    if only.open_only:
        statement = statement.where(table.c.status.in_(OPEN_STATUSES))
    if only.since is not None:
        statement = statement.where(table.c.created_at >= only.since)
    if only.until is not None:
        statement = statement.where(table.c.created_at < only.until)
    level = None if only.severity is None else as_pagers_name_it(only.severity)
    wanted = {"playbook": only.playbook, "target": only.target, "status": only.status, "severity": level}
    for name, value in wanted.items():
        if value is not None:
            statement = statement.where(table.c[name] == value)
    return [from_row(row) for row in connection.execute(statement)]


def count_by_status(connection: Connection, playbook: str) -> dict[str, int]:
    """Return how many of the last 500 runs of a playbook have each status. The cost does not grow with the history."""
    recent = (
        select(table.c.status)
        .where(table.c.playbook == playbook)
        .order_by(table.c.created_at.desc())
        .limit(500)
        .subquery()
    )
    rows = connection.execute(select(recent.c.status, func.count()).group_by(recent.c.status))
    return {row[0]: row[1] for row in rows}


def draft(kind: Kind, run: Run, actor: str, data: Mapping[str, Any], reason: str | None = None) -> Draft:
    """Return an audit entry about a run."""
    return Draft(
        kind=kind,
        actor=actor,
        run=run.id,
        playbook=run.playbook,
        playbook_hash=run.playbook_hash,
        plan_hash=run.plan_hash,
        reason=reason,
        data=data,
    )
