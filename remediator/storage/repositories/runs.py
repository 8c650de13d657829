"""Runs: creation, claims with fencing tokens, and transitions with their audit entry."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
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
from remediator.storage.schema import Instant, as_stored, attempts, episodes, run_episodes
from remediator.storage.schema import runs as table

_OPEN = sorted(status.value for status in OPEN)
_FIELDS = tuple(Run.__dataclass_fields__)
_COLUMNS = tuple(table.c[name] for name in _FIELDS)
_VOLATILE = ("incident_id", "wakeup_count", "cancel_request", "lease_until", "wake_at", "incident_open")
"""The columns of a claimed run that others may change. Only the process that holds the claim changes all others."""


def _run(row: Row[Any]) -> Run:
    """Return a row of ``_COLUMNS`` as a run."""
    values = dict(zip(_FIELDS, row, strict=True))
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
    run = _run(tx.connection.execute(_CREATE, values).one())
    data = {"target": target, "mode": mode, "incident": run.incident_id}
    tx.append_audit(draft(Kind.RUN_MATCHED, run, actor, data))
    if lease is None:
        tx.notify(TOPIC_RUNS)
    return run


_CREATE = insert(table).returning(*_COLUMNS)


def add_episodes(tx: Tx, run_id: str, joining: Collection[Episode], *, created: bool = False) -> None:
    """Add episodes to a run, and raise its severity to theirs; episodes that it has already are ignored.

    Args:
        tx: the transaction.
        run_id: the run.
        joining: the episodes.
        created: this transaction has created the run, so that it has no episodes yet.
    """
    have = set() if created else set(tx.connection.execute(_KNOWN_EPISODES, {"run": run_id}).scalars())
    rows = [{"run_id": run_id, "episode_id": item.id, "joined_at": tx.now} for item in joining if item.id not in have]
    if rows:
        tx.connection.execute(_ADD_EPISODES, rows)
        _raise_severity(tx, run_id, highest_severity(item for item in joining if item.id not in have), first=not have)


_KNOWN_EPISODES = select(run_episodes.c.episode_id).where(run_episodes.c.run_id == bindparam("run"))
_ADD_EPISODES = insert(run_episodes)


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
        for row in connection.execute(_OPEN_INCIDENTS, {"keys": keys[start : start + 400]}):
            found[row.playbook, row.target] = _run(row)
    return found


_OPEN_INCIDENTS = select(*_COLUMNS).where(
    table.c.incident_open, tuple_(table.c.playbook, table.c.target).in_(bindparam("keys", expanding=True))
)


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
        .returning(*_COLUMNS)
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
        .returning(*_COLUMNS)
    ).first()
    return None if row is None else _run(row)


def release_claim(tx: Tx, run: Run) -> None:
    """Release the claim on an ended run, and its target lock unless one of its calls may still take effect.

    Raises:
        Fenced: the claim is lost.
    """
    save(tx, run, lease_owner=None, lease_until=None, holds_target=_may_still_act(tx.connection, run.id))


def void_claims(tx: Tx) -> None:
    """Void all claims: what their processes remember may not be in this database.

    The leases stay, so that no other process takes a run over while a call of the last one may still be in progress.
    """
    tx.connection.execute(update(table).where(table.c.lease_owner.is_not(None)).values(fence=table.c.fence + 1))


def claim_of(run: Run) -> Claim:
    """Return the claim that :func:`claim_due` gave with this run."""
    assert run.lease_owner is not None and run.lease_until is not None
    return Claim(run.id, run.lease_owner, run.fence, run.lease_until)


def save(tx: Tx, run: Run, **changes: Any) -> Run:
    """Change columns of a claimed run. Every write to a claimed run goes through here.

    The conditions defend promise 4, exclusive claims: the fencing token and the owner must be those of the claim, and
    its lease must not have expired. A process that was paused therefore changes nothing after it has lost the run.

    Returns:
        the run with these changes, and with what others changed meanwhile.

    Raises:
        Fenced: the claim is lost; nothing was changed.
    """
    values = {name: _plain(value) for name, value in changes.items()}
    return _save(tx, run, _save_columns(tuple(values)), values, changes)


def _save(
    tx: Tx, run: Run, statement: ReturningUpdate[Any], values: Mapping[str, Any], changes: Mapping[str, Any]
) -> Run:
    held = {"its_id": run.id, "its_fence": run.fence, "its_owner": run.lease_owner, "at": tx.now}
    row = tx.connection.execute(statement, {**values, **held}).first()
    if row is None:
        raise Fenced(
            f"run {run.id}: claim {run.fence} of {run.lease_owner} is lost; another process has it or will claim it"
        )
    return replace(changed(run, tx.now, changes), **dict(zip(_VOLATILE, row, strict=True)))


def _held(**named: Any) -> ReturningUpdate[Any]:
    """Return the statement that changes a claimed run, fenced; it returns the columns that others may change."""
    at = bindparam("at", type_=Instant)
    return (
        update(table)
        .where(
            table.c.id == bindparam("its_id"),
            table.c.fence == bindparam("its_fence"),
            table.c.lease_owner == bindparam("its_owner"),
            table.c.lease_until > at,
        )
        .values(updated_at=at, **named)
        .returning(*(table.c[name] for name in _VOLATILE))
    )


@cache
def _save_columns(names: tuple[str, ...]) -> ReturningUpdate[Any]:
    """Build the statement for these columns once."""
    return _held(**{name: bindparam(name, type_=table.c[name].type) for name in names})


def changed(run: Run, now: datetime, changes: Mapping[str, Any]) -> Run:
    """Return a run with other columns, as it is read from the store after they were written."""
    after = {"updated_at": now, **{name: value for name, value in changes.items() if name in _FIELDS}}
    if (plan := after.get("plan")) is not None:
        after["plan"] = Plan.from_data(as_stored(plan.to_data()))
    if "detail" in after:
        after["detail"] = decode_detail(after.get("status", run.status), as_stored(after["detail"].to_data()))
    return replace(run, **after)


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
    return _save(tx, run, _RENEW, {"until": tx.now + lease}, {})


_UNTIL = bindparam("until", type_=Instant)
_RENEW = _held(lease_until=case((table.c.lease_until < _UNTIL, _UNTIL), else_=table.c.lease_until))


def transition(tx: Tx, run: Run, to: Status, reason: Reason | None, detail: Detail, actor: str, **changes: Any) -> Run:
    """Move a claimed run to another status, with its audit entry, in this transaction.

    Raises:
        IllegalTransition: :data:`remediator.core.run.TRANSITIONS` does not have it.
        Fenced: the claim is lost.
    """
    values = transition_columns(run, to, reason, detail, changes)
    if to in TERMINAL:
        values.update(finished_at=tx.now)  # it stays due: this process, or the next, has to finish its end
        values.setdefault("holds_target", run.holds_target and _may_still_act(tx.connection, run.id))
    after = save(tx, run, **values)
    tx.append_audit(transition_draft(run, after, actor))
    return after


def transition_columns(
    run: Run, to: Status, reason: Reason | None, detail: Detail, changes: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what a transition changes, in any status that is not the last.

    Raises:
        IllegalTransition: :data:`remediator.core.run.TRANSITIONS` does not have it.
    """
    check_transition(run.status, to)
    return {"status": to, "reason": reason, "detail": detail, **_blocked_by(reason, detail), **changes}


def transition_draft(before: Run, after: Run, actor: str) -> Draft:
    """Return the audit entry of a transition."""
    data = {"from": before.status.value, "to": after.status.value, "detail": after.detail.to_data()}
    return draft(Kind.RUN_TRANSITION, after, actor, data, after.reason)


def _may_still_act(connection: Connection, run_id: str) -> bool:
    """Return whether a call of the run may still take effect. Only a person can exclude that, so the lock stays."""
    return connection.execute(_UNCLEAR, {"run": run_id}).first() is not None


_UNCLEAR = select(attempts.c.id).where(
    attempts.c.run_id == bindparam("run"), attempts.c.outcome.is_(None) | (attempts.c.outcome == "unknown")
)


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
    _save(tx, run, _RELEASE, {"seen": wakeup_count, "due": due}, {"lease_owner": None})


_NOTIFIED = (table.c.wakeup_count != bindparam("seen")) & table.c.status.in_(_OPEN)
_RELEASE = _held(
    lease_owner=None,
    lease_until=None,
    wake_at=case((_NOTIFIED, bindparam("at", type_=Instant)), else_=bindparam("due", type_=Instant)),
)


def notify(tx: Tx, run_ids: Collection[str]) -> None:
    """Schedule these runs now, because an event concerns them, for example resolved, decided or cancelled."""
    ids = list(run_ids)
    for start in range(0, len(ids), 500):
        tx.connection.execute(_NOTIFY, {"ids": ids[start : start + 500], "now": tx.now})
    if ids:
        tx.notify(TOPIC_RUNS)


_IDS = table.c.id.in_(bindparam("ids", expanding=True))
_NOTIFY = (
    update(table)
    .where(_IDS, table.c.status.in_(_OPEN))
    .values(wakeup_count=table.c.wakeup_count + 1, wake_at=bindparam("now", type_=Instant))
)


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
    if run_ids:
        tx.connection.execute(_CLOSE, {"ids": list(run_ids)})


_CLOSE = update(table).where(_IDS).values(incident_open=False)


def close_orphaned_incidents(tx: Tx, limit: int = 100) -> int:
    """Close incidents whose run and alerts have ended, in case :func:`close_incident` did not. Return their number."""
    ids = list(tx.connection.execute(_OVER, {"most": limit}).scalars())
    if ids:
        close_incident(tx, ids)
    return len(ids)


_LIVING = exists().where(
    run_episodes.c.run_id == table.c.id, run_episodes.c.episode_id == episodes.c.id, episodes.c.status != "closed"
)
_OVER = (
    select(table.c.id)
    .where(table.c.incident_open, table.c.finished_at.is_not(None), ~_LIVING)
    .limit(bindparam("most", type_=Integer))
)


def release_target(tx: Tx, run_id: str, who: str, reason: str) -> bool:
    """Release the target lock of an ended run, as a person requests. Return False if it holds none."""
    row = tx.connection.execute(
        update(table)
        .where(table.c.id == run_id, table.c.holds_target, table.c.finished_at.is_not(None))
        .values(holds_target=False)
        .returning(*_COLUMNS)
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
    return connection.execute(_LOCK_HOLDER, {"target": target, "other_than": other_than}).scalar()


_LOCK_HOLDER = select(table.c.id).where(
    table.c.target == bindparam("target"), table.c.holds_target, table.c.id != bindparam("other_than")
)


def get(connection: Connection, run_id: str, *, lock: bool = False) -> Run | None:
    """Return a run by its ID, or None. ``lock`` its row until the end of the transaction."""
    row = connection.execute(_GET_LOCKED if lock else _GET, {"run": run_id}).first()
    return None if row is None else _run(row)


_GET = select(*_COLUMNS).where(table.c.id == bindparam("run"))
_GET_LOCKED = _GET.with_for_update()


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
    statement = select(*_COLUMNS).order_by(table.c.created_at.desc(), table.c.id.desc()).limit(limit)
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


def next_wake_at(connection: Connection, now: datetime, busy: Collection[str] = ()) -> datetime | None:
    """Return when the next run is due that is not claimed at ``now``, not ``busy``, and not of a newer version."""
    return connection.execute(_NEXT_WAKE, {"now": now, "busy": list(busy)}).scalar()


_NEXT_WAKE = (
    select(table.c.wake_at)
    .where(
        table.c.wake_at.is_not(None),
        table.c.lease_until.is_(None) | (table.c.lease_until < bindparam("now", type_=Instant)),
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


@dataclass(frozen=True, slots=True)
class ActingRun:
    """A run that acts on its target, or holds its lock."""

    id: str
    target: str
    playbook: str


def list_locks(connection: Connection) -> list[ActingRun]:
    """Return the runs that hold a target lock, without their plans."""
    return [ActingRun(*row) for row in connection.execute(_LOCKS)]


_LOCKS = select(table.c.id, table.c.target, table.c.playbook).where(table.c.holds_target)


def list_lock_holders(connection: Connection) -> list[Run]:
    """Return the runs that hold a target lock."""
    return [_run(row) for row in connection.execute(_LOCK_HOLDERS)]


_LOCK_HOLDERS = select(*_COLUMNS).where(table.c.holds_target)
