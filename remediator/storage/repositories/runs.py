"""Runs: creation, claims with fencing tokens, and transitions with their audit entry."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from functools import cache
from typing import Any

import msgspec
from sqlalchemy import (
    Connection,
    Integer,
    Row,
    bindparam,
    case,
    exists,
    func,
    insert,
    literal,
    select,
    tuple_,
    update,
)
from sqlalchemy.sql.dml import ReturningUpdate

from remediator.audit import Draft, Kind
from remediator.core.plan import Plan
from remediator.core.run import (
    ENGINE_VERSION,
    OPEN,
    TERMINAL,
    Claim,
    Episode,
    Reason,
    Run,
    Status,
    check_transition,
    decode_detail,
)
from remediator.core.run_detail import BlockedDetail, Detail
from remediator.core.severity import DEFAULT, SEVERITIES, as_pagers_name_it, highest_severity
from remediator.errors import Fenced
from remediator.storage import TOPIC_RUNS, Tx
from remediator.storage.schema import Instant, attempts, episodes, run_episodes
from remediator.storage.schema import runs as table

_OPEN = sorted(status.value for status in OPEN)
_FIELDS = tuple(Run.__dataclass_fields__)


def _run(row: Row[Any]) -> Run:
    values = {name: row._mapping[name] for name in _FIELDS}
    values["status"] = Status(row.status)
    values["reason"] = None if row.reason is None else Reason(row.reason)
    values["detail"] = decode_detail(values["status"], row.detail)
    values["plan"] = _plan(row.plan)
    values["resume_to"] = Status(row.resume_to) if row.resume_to else None
    return Run(**values)


def _plan(data: Mapping[str, Any] | None) -> Plan | None:
    """Return the stored plan; None if another version wrote it in another form, so that the run can still be listed."""
    try:
        return None if data is None else Plan.from_data(data)
    except msgspec.ValidationError:
        return None


def create(
    tx: Tx, run_id: str, playbook: str, playbook_hash: str, target: str, mode: str, actor: str, incident_id: str = ""
) -> Run:
    """Create a run in status ``matched``, due at once. Without an ``incident_id``, it begins an incident.

    Raises:
        sqlalchemy.exc.IntegrityError: the incident has a run already (unique index ``uq_runs_incident``).
    """
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
    }
    row = tx.connection.execute(insert(table).returning(table), values).one()
    run = _run(row)
    data = {"target": target, "mode": mode, "incident": run.incident_id}
    tx.append_audit(draft(Kind.RUN_MATCHED, run, actor, data))
    tx.notify(TOPIC_RUNS)
    return run


def add_episodes(tx: Tx, run_id: str, joining: Collection[Episode]) -> None:
    """Add episodes to a run, and raise its severity to theirs; episodes that it has already are ignored."""
    known = select(run_episodes.c.episode_id).where(run_episodes.c.run_id == run_id)
    have = set(tx.connection.execute(known).scalars())
    rows = [{"run_id": run_id, "episode_id": item.id, "joined_at": tx.now} for item in joining if item.id not in have]
    if rows:
        tx.connection.execute(insert(run_episodes), rows)
        _raise_severity(tx, run_id, highest_severity(item for item in joining if item.id not in have), first=not have)


def _raise_severity(tx: Tx, run_id: str, severity: str, *, first: bool) -> None:
    """Set the severity of a new run, or raise that of an older one. A new run has the default already."""
    if first and severity == DEFAULT:
        return
    lower = SEVERITIES if first else SEVERITIES[SEVERITIES.index(severity) + 1 :]
    tx.connection.execute(
        update(table).where(table.c.id == run_id, table.c.severity.in_(lower)).values(severity=severity)
    )


def get_open_incidents(connection: Connection, keys: Sequence[tuple[str, str]]) -> dict[tuple[str, str], Run]:
    """Return the runs of these (playbook, target) pairs whose incident is open."""
    found: dict[tuple[str, str], Run] = {}
    for start in range(0, len(keys), 400):
        chosen = tuple_(table.c.playbook, table.c.target).in_(keys[start : start + 400])
        for row in connection.execute(select(table).where(table.c.incident_open, chosen)):
            found[row.playbook, row.target] = _run(row)
    return found


def claim_due(
    tx: Tx,
    owner: str,
    lease: timedelta,
    limit: int,
    busy: Collection[str] = (),
    engine_version: int = ENGINE_VERSION,
) -> list[Run]:
    """Claim up to ``limit`` due runs that no replica processes. Each gets the next fencing token.

    Args:
        busy: runs that this process still processes, even if their leases expired. After a jump of the clock it must
            not claim them from itself.
    """
    values = {"now": tx.now, "until": tx.now + lease, "owner": owner, "most": limit, "known": engine_version}
    rows = tx.connection.execute(_claim(tx.connection.dialect.name), {**values, "busy": list(busy)})
    return [_run(row) for row in rows]


@cache
def _claim(dialect: str) -> ReturningUpdate[Any]:
    """Build the statement once: it runs at least every second."""
    now = bindparam("now", type_=Instant)
    due = (
        select(table.c.id)
        .where(
            table.c.wake_at <= now,
            (table.c.lease_until.is_(None)) | (table.c.lease_until < now),
            table.c.engine_version <= bindparam("known"),
            table.c.id.not_in(bindparam("busy", expanding=True)),
        )
        .order_by(table.c.wake_at)
        .limit(bindparam("most", type_=Integer))
        .with_for_update(skip_locked=True)
    )
    if dialect == "sqlite":
        chosen = due.scalar_subquery()
    else:  # MATERIALIZED: PostgreSQL may otherwise run a subquery with LIMIT and locks again for each row
        chosen = select(due.cte("due").prefix_with("MATERIALIZED", dialect="postgresql").c.id).scalar_subquery()
    return (
        update(table)
        .where(table.c.id.in_(chosen))
        .values(lease_owner=bindparam("owner"), lease_until=bindparam("until", type_=Instant), fence=table.c.fence + 1)
        .returning(table)
    )


def claim_finished(tx: Tx, run_id: str, owner: str, lease: timedelta) -> Run | None:
    """Claim an ended run, to undo what it did.

    Returns:
        None if another process has claimed it, another run holds the target lock, or a newer version wrote it.
    """
    run = get(tx.connection, run_id, lock=True)
    if run is None or run.status not in TERMINAL or run.engine_version > ENGINE_VERSION:
        return None
    if lock_holder(tx.connection, run.target, run_id) is not None:
        return None
    row = tx.connection.execute(
        update(table)
        .where(table.c.id == run_id, (table.c.lease_until.is_(None)) | (table.c.lease_until < tx.now))
        .values(lease_owner=owner, lease_until=tx.now + lease, fence=table.c.fence + 1)
        .returning(table)
    ).first()
    return None if row is None else _run(row)


def release_claim(tx: Tx, run: Run) -> None:
    """Release the claim on an ended run, and its target lock unless one of its calls may still take effect.

    Raises:
        Fenced: the claim is lost.
    """
    save(tx, run, lease_owner=None, lease_until=None, holds_target=_may_still_act(tx.connection, run.id))


def claim_of(run: Run) -> Claim:
    """Return the claim that :func:`claim_due` gave with this run."""
    assert run.lease_owner is not None and run.lease_until is not None
    return Claim(run.id, run.lease_owner, run.fence, run.lease_until)


def save(tx: Tx, run: Run, **changes: Any) -> Run:
    """Change columns of a claimed run. Every write to a claimed run goes through here.

    The conditions defend promise 4, exclusive claims: the fencing token and the owner must be those of the claim, and
    its lease must not have expired. A process that was paused therefore changes nothing after it has lost the run.

    Raises:
        Fenced: the claim is lost; nothing was changed.
    """
    held = (table.c.id == run.id, table.c.fence == run.fence, table.c.lease_owner == run.lease_owner)
    row = tx.connection.execute(
        update(table)
        .where(*held, table.c.lease_until > tx.now)
        .values(updated_at=tx.now, **{name: _plain(value) for name, value in changes.items()})
        .returning(table)
    ).first()
    if row is None:
        raise Fenced(
            f"run {run.id}: claim {run.fence} of {run.lease_owner} is lost; another process has it or will claim it"
        )
    return _run(row)


def _plain(value: Any) -> Any:
    if isinstance(value, Status | Reason):
        return value.value
    return value.to_data() if isinstance(value, Detail | Plan) else value


def set_reason(tx: Tx, run: Run, reason: Reason, detail: Detail) -> Run:
    """Change why a claimed run is in its status.

    Raises:
        Fenced: the claim is lost.
    """
    return save(tx, run, reason=reason, detail=detail, **_blocked_by(reason, detail))


def _blocked_by(reason: Reason | None, detail: Detail) -> dict[str, str | None]:
    """Return the columns that say what blocks a run, so that it is found when that is over."""
    if reason is not Reason.GUARD_BLOCKED or not isinstance(detail, BlockedDetail):
        return {"blocked_by": None, "blocked_by_run": None}
    other = detail.inputs.get("run")
    return {"blocked_by": detail.guard, "blocked_by_run": other if isinstance(other, str) else None}


def renew_lease(tx: Tx, run: Run, lease: timedelta) -> Run:
    """Extend the lease of a claim to this time from now, unless it lasts longer already."""
    until = tx.now + lease
    longer = case((table.c.lease_until < until, literal(until, Instant)), else_=table.c.lease_until)
    return save(tx, run, lease_until=longer)


def transition(tx: Tx, run: Run, to: Status, reason: Reason | None, detail: Detail, actor: str, **changes: Any) -> Run:
    """Move a claimed run to another status, with its audit entry, in this transaction.

    Raises:
        IllegalTransition: :data:`remediator.core.run.TRANSITIONS` does not have it.
        Fenced: the claim is lost.
    """
    check_transition(run.status, to)
    values: dict[str, Any] = {
        "status": to,
        "reason": reason,
        "detail": detail,
        **_blocked_by(reason, detail),
        **changes,
    }
    if to in TERMINAL:
        values.update(finished_at=tx.now)  # it stays due: this process, or the next, has to finish its end
        values.setdefault("holds_target", run.holds_target and _may_still_act(tx.connection, run.id))
    after = save(tx, run, **values)
    data = {"from": run.status.value, "to": to.value, "detail": detail.to_data()}
    tx.append_audit(draft(Kind.RUN_TRANSITION, after, actor, data, reason))
    return after


def _may_still_act(connection: Connection, run_id: str) -> bool:
    """Return whether a call of the run may still take effect. Only a person can exclude that, so the lock stays."""
    unclear = attempts.c.outcome.is_(None) | (attempts.c.outcome == "unknown")
    return connection.execute(select(attempts.c.id).where(attempts.c.run_id == run_id, unclear)).first() is not None


def release(tx: Tx, run: Run, wake_at: datetime | None, wakeup_count: int) -> None:
    """Release a claimed run until ``wake_at``; it is due at once if an event arrived meanwhile.

    Args:
        wakeup_count: the number of events before the run was last evaluated. If it is higher now, an event arrived
            during the evaluation, and the run is evaluated again.

    Raises:
        Fenced: the claim is lost.
    """
    due = None
    if run.status not in TERMINAL:
        due = min((at for at in (wake_at, run.due_by) if at is not None), default=None)
    notified = (table.c.wakeup_count != wakeup_count) & table.c.status.in_(_OPEN)
    save(
        tx,
        run,
        lease_owner=None,
        lease_until=None,
        wake_at=case((notified, literal(tx.now, Instant)), else_=literal(due, Instant)),
    )


def notify(tx: Tx, run_ids: Collection[str]) -> None:
    """Schedule these runs now, because an event concerns them, for example resolved, decided or cancelled."""
    ids = list(run_ids)
    for start in range(0, len(ids), 500):
        chosen = table.c.id.in_(ids[start : start + 500])
        tx.connection.execute(
            update(table)
            .where(chosen, table.c.status.in_(_OPEN))
            .values(wakeup_count=table.c.wakeup_count + 1, wake_at=tx.now)
        )
    if ids:
        tx.notify(TOPIC_RUNS)


def request_cancel(tx: Tx, run_id: str, who: str, reason: str) -> bool:
    """Request to cancel a run: now while it waits, after the current step while it acts. Return False if it ended."""
    changed = tx.connection.execute(
        update(table)
        .where(table.c.id == run_id, table.c.status.in_(_OPEN))
        .values(cancel_request={"who": who, "reason": reason})
    ).rowcount
    if changed:
        notify(tx, [run_id])
    return bool(changed)


def clear_leases(tx: Tx, keep: str = "") -> int:
    """Clear every lease. Safe only if this is the only process, as on SQLite with its lock file."""
    return tx.connection.execute(
        update(table)
        .where(table.c.lease_owner.is_not(None), table.c.lease_owner != keep)
        .values(lease_owner=None, lease_until=None)
    ).rowcount


def close_incident(tx: Tx, run_ids: Collection[str]) -> None:
    """Close the incidents of runs, because their alerts are closed. The next firing gets a new run."""
    tx.connection.execute(update(table).where(table.c.id.in_(list(run_ids))).values(incident_open=False))


def close_orphaned_incidents(tx: Tx, limit: int = 100) -> int:
    """Close incidents whose run and alerts have ended, in case :func:`close_incident` did not. Return their number."""
    living = exists().where(
        run_episodes.c.run_id == table.c.id, run_episodes.c.episode_id == episodes.c.id, episodes.c.status != "closed"
    )
    over = select(table.c.id).where(table.c.incident_open, table.c.finished_at.is_not(None), ~living).limit(limit)
    ids = list(tx.connection.execute(over).scalars())
    if ids:
        close_incident(tx, ids)
    return len(ids)


def release_target(tx: Tx, run_id: str, who: str, reason: str) -> bool:
    """Release the target lock of an ended run, as a person requests. Return False if it holds none."""
    row = tx.connection.execute(
        update(table)
        .where(table.c.id == run_id, table.c.holds_target, table.c.finished_at.is_not(None))
        .values(holds_target=False)
        .returning(table)
    ).first()
    if row is not None:
        tx.append_audit(draft(Kind.RUN_RELEASED, _run(row), who, {"target": row.target}, reason))
    return row is not None


def mark_ineffective(tx: Tx, run_id: str) -> bool:
    """Mark a successful run as ineffective. Return False if it is marked already."""
    row = tx.connection.execute(select(table.c.detail).where(table.c.id == run_id).with_for_update()).one()
    if row.detail.get("ineffective"):
        return False
    tx.connection.execute(update(table).where(table.c.id == run_id).values(detail={**row.detail, "ineffective": True}))
    return True


def lock_holder(connection: Connection, target: str, other_than: str) -> str | None:
    """Return the ID of another run that holds the lock of a target, or None."""
    statement = select(table.c.id).where(table.c.target == target, table.c.holds_target, table.c.id != other_than)
    return connection.execute(statement).scalar()


def get(connection: Connection, run_id: str, *, lock: bool = False) -> Run | None:
    """Return a run by its ID, or None. ``lock`` its row until the end of the transaction."""
    statement = select(table).where(table.c.id == run_id)
    row = connection.execute(statement.with_for_update() if lock else statement).first()
    return None if row is None else _run(row)


def list_page(
    connection: Connection,
    limit: int,
    before: tuple[datetime, str] | None = None,
    *,
    open_only: bool = False,
    playbook: str | None = None,
    target: str | None = None,
    status: str | None = None,
    severity: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> list[Run]:
    """Return runs, newest first.

    Args:
        connection: to the store.
        limit: most runs to return.
        before: the (created_at, id) of the last run on the previous page.
        open_only: only runs that have not ended.
        playbook: only runs of this playbook.
        target: only runs on this service.
        status: only runs in this status.
        severity: only runs whose alerts have this as their highest severity.
        since: only runs that began then or later.
        until: only runs that began before.
    """
    statement = select(table).order_by(table.c.created_at.desc(), table.c.id.desc()).limit(limit)
    if before is not None:
        statement = statement.where(tuple_(table.c.created_at, table.c.id) < before)
    if open_only:
        statement = statement.where(table.c.status.in_(_OPEN))
    if since is not None:
        statement = statement.where(table.c.created_at >= since)
    if until is not None:
        statement = statement.where(table.c.created_at < until)
    level = None if severity is None else as_pagers_name_it(severity)
    wanted = {"playbook": playbook, "target": target, "status": status, "severity": level}
    for name, value in wanted.items():
        if value is not None:
            statement = statement.where(table.c[name] == value)
    return [_run(row) for row in connection.execute(statement)]


def count_by_status(connection: Connection, playbook: str, last: int = 500) -> dict[str, int]:
    """Return how many of the last runs of a playbook have each status. The cost does not grow with the history."""
    recent = (
        select(table.c.status)
        .where(table.c.playbook == playbook)
        .order_by(table.c.created_at.desc())
        .limit(last)
        .subquery()
    )
    rows = connection.execute(select(recent.c.status, func.count()).group_by(recent.c.status))
    return {row[0]: row[1] for row in rows}


def next_wake_at(connection: Connection, busy: Collection[str] = ()) -> datetime | None:
    """Return when the next run is due that is not claimed, not ``busy``, and not of a newer version."""
    return connection.execute(_NEXT_WAKE, {"busy": list(busy)}).scalar()


_NEXT_WAKE = (
    select(table.c.wake_at)
    .where(
        table.c.wake_at.is_not(None),
        table.c.lease_until.is_(None),
        table.c.engine_version <= ENGINE_VERSION,
        table.c.id.not_in(bindparam("busy", expanding=True)),
    )
    .order_by(table.c.wake_at)
    .limit(1)
)


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


def list_lock_holders(connection: Connection) -> list[Run]:
    """Return the runs that hold a target lock."""
    return [_run(row) for row in connection.execute(_LOCK_HOLDERS)]


_LOCK_HOLDERS = select(table).where(table.c.holds_target)
