"""Runs in the store: creation, claims with fencing, transitions with their audit entry."""

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


def create(tx: Tx, run_id: str, playbook: str, playbook_hash: str, target: str, mode: str, actor: str) -> Run:
    """A new run in state ``matched``, due at once.

    Raises:
        sqlalchemy.exc.IntegrityError: this incident has its run already.
    """
    values: dict[str, Any] = {
        "id": run_id,
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
    tx.append_audit(draft(Kind.RUN_MATCHED, run, actor, {"target": target, "mode": mode}))
    tx.notify(TOPIC_RUNS)
    return run


def add_episodes(tx: Tx, run_id: str, joining: Collection[Episode]) -> None:
    """Say that a run is for these episodes too; those that it has already are left alone."""
    known = select(run_episodes.c.episode_id).where(run_episodes.c.run_id == run_id)
    have = set(tx.connection.execute(known).scalars())
    rows = [{"run_id": run_id, "episode_id": item.id, "joined_at": tx.now} for item in joining if item.id not in have]
    if rows:
        tx.connection.execute(insert(run_episodes), rows)


def get_open_incidents(connection: Connection, keys: Sequence[tuple[str, str]]) -> dict[tuple[str, str], Run]:
    """The runs of these (playbook, target) whose incident is not over."""
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
    """Take up to ``limit`` runs that are due and that nobody works on; each gets the next fencing token.

    Args:
        busy: runs that this process still works on, whatever became of their leases: when its clock jumps, it must not
            take them from itself.
    """
    values = {"now": tx.now, "until": tx.now + lease, "owner": owner, "most": limit, "known": engine_version}
    rows = tx.connection.execute(_claim(tx.connection.dialect.name), {**values, "busy": list(busy)})
    return [_run(row) for row in rows]


@cache
def _claim(dialect: str) -> ReturningUpdate[Any]:
    """The statement, built once: it is run at least every second."""
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
    else:  # evaluated once: a subquery with LIMIT and locks may be run again for each row
        chosen = select(due.cte("due").prefix_with("MATERIALIZED", dialect="postgresql").c.id).scalar_subquery()
    return (
        update(table)
        .where(table.c.id.in_(chosen))
        .values(lease_owner=bindparam("owner"), lease_until=bindparam("until", type_=Instant), fence=table.c.fence + 1)
        .returning(table)
    )


def claim_finished(tx: Tx, run_id: str, owner: str, lease: timedelta) -> Run | None:
    """Take a run that is over, to put back what it did; None if somebody works on it, or another run on its target, or
    a newer version wrote it."""
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
    """Let go of a run that is over, and of its target, unless a call of it may still land.

    Raises:
        Fenced: the claim is gone.
    """
    save(tx, run, lease_owner=None, lease_until=None, holds_target=_unclear(tx.connection, run.id))


def claim_of(run: Run) -> Claim:
    """The claim that :func:`claim_due` gave with this run."""
    assert run.lease_owner is not None and run.lease_until is not None
    return Claim(run.id, run.lease_owner, run.fence, run.lease_until)


def save(tx: Tx, run: Run, **changes: Any) -> Run:
    """Change a claimed run's columns.

    Raises:
        Fenced: the claim is not this process's any more; nothing was changed.
    """
    held = (table.c.id == run.id, table.c.fence == run.fence, table.c.lease_owner == run.lease_owner)
    row = tx.connection.execute(
        update(table)
        .where(*held, table.c.lease_until > tx.now)
        .values(updated_at=tx.now, **{name: _plain(value) for name, value in changes.items()})
        .returning(table)
    ).first()
    if row is None:
        raise Fenced(f"run {run.id}: claim {run.fence} of {run.lease_owner} is gone; another process has it or will")
    return _run(row)


def _plain(value: Any) -> Any:
    if isinstance(value, Status | Reason):
        return value.value
    return value.to_data() if isinstance(value, Detail | Plan) else value


def set_reason(tx: Tx, run: Run, reason: Reason, detail: Detail) -> Run:
    """Change why a claimed run is in its status.

    Raises:
        Fenced: the claim is gone.
    """
    return save(tx, run, reason=reason, detail=detail, **_blocked_by(reason, detail))


def _blocked_by(reason: Reason | None, detail: Detail) -> dict[str, str | None]:
    """Return the columns that say what blocks a run, so that it is found when that is over."""
    if reason is not Reason.GUARD_BLOCKED or not isinstance(detail, BlockedDetail):
        return {"blocked_by": None, "blocked_by_run": None}
    other = detail.inputs.get("run")
    return {"blocked_by": detail.guard, "blocked_by_run": other if isinstance(other, str) else None}


def renew_lease(tx: Tx, run: Run, lease: timedelta) -> Run:
    """Prolong a claim to so long from now, if it does not last longer anyway."""
    until = tx.now + lease
    longer = case((table.c.lease_until < until, literal(until, Instant)), else_=table.c.lease_until)
    return save(tx, run, lease_until=longer)


def transition(tx: Tx, run: Run, to: Status, reason: Reason | None, detail: Detail, actor: str, **changes: Any) -> Run:
    """Move a claimed run to another status, with its audit entry, in this transaction.

    Raises:
        IllegalTransition: the table does not have it.
        Fenced: the claim is gone.
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
        values.update(finished_at=tx.now)  # still due: its end has to be seen to, by this process or the next
        values.setdefault("holds_target", run.holds_target and _unclear(tx.connection, run.id))
    after = save(tx, run, **values)
    data = {"from": run.status.value, "to": to.value, "detail": detail.to_data()}
    tx.append_audit(draft(Kind.RUN_TRANSITION, after, actor, data, reason))
    return after


def _unclear(connection: Connection, run_id: str) -> bool:
    """Whether some call of it may still land: only a person can rule that out, so its target stays held."""
    unclear = attempts.c.outcome.is_(None) | (attempts.c.outcome == "unknown")
    return connection.execute(select(attempts.c.id).where(attempts.c.run_id == run_id, unclear)).first() is not None


def release(tx: Tx, run: Run, wake_at: datetime | None, wakeup_count: int) -> None:
    """Let go of a claimed run until ``wake_at``; an event that came meanwhile makes it due at once.

    Args:
        wakeup_count: how many events there had been when the world was last looked at; more by now means: look again.

    Raises:
        Fenced: the claim is gone.
    """
    due = None if run.status in TERMINAL else _earlier(wake_at, run.due_by)
    notified = (table.c.wakeup_count != wakeup_count) & table.c.status.in_(_OPEN)
    save(
        tx,
        run,
        lease_owner=None,
        lease_until=None,
        wake_at=case((notified, literal(tx.now, Instant)), else_=literal(due, Instant)),
    )


def _earlier(first: datetime | None, second: datetime | None) -> datetime | None:
    return min((at for at in (first, second) if at is not None), default=None)


def notify(tx: Tx, run_ids: Collection[str]) -> None:
    """Something happened that concerns these runs (resolved, decided, cancelled…): look at them now."""
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
    """Ask that a run stops: at once while it waits, after the current step while it acts. False if it is over."""
    changed = tx.connection.execute(
        update(table)
        .where(table.c.id == run_id, table.c.status.in_(_OPEN))
        .values(cancel_request={"who": who, "reason": reason})
    ).rowcount
    if changed:
        notify(tx, [run_id])
    return bool(changed)


def clear_leases(tx: Tx, keep: str = "") -> int:
    """Void every lease: right only where this process is known to be the sole one (one SQLite file, one process)."""
    return tx.connection.execute(
        update(table)
        .where(table.c.lease_owner.is_not(None), table.c.lease_owner != keep)
        .values(lease_owner=None, lease_until=None)
    ).rowcount


def close_incident(tx: Tx, run_ids: Collection[str]) -> None:
    """Their alerts are over for good: the next firing is another incident and may get another run."""
    tx.connection.execute(update(table).where(table.c.id.in_(list(run_ids))).values(incident_open=False))


def close_orphaned_incidents(tx: Tx, limit: int = 100) -> int:
    """The net under :func:`close_incident`: runs that are over, as are all their alerts. Returns how many."""
    living = exists().where(
        run_episodes.c.run_id == table.c.id, run_episodes.c.episode_id == episodes.c.id, episodes.c.status != "closed"
    )
    over = select(table.c.id).where(table.c.incident_open, table.c.finished_at.is_not(None), ~living).limit(limit)
    ids = list(tx.connection.execute(over).scalars())
    if ids:
        close_incident(tx, ids)
    return len(ids)


def release_target(tx: Tx, run_id: str, who: str, reason: str) -> bool:
    """A person says that nothing of this run is still acting on its target. False if it is not over, or holds none."""
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
    """Note that a success was none, once: False if that was noted before."""
    row = tx.connection.execute(select(table.c.detail).where(table.c.id == run_id).with_for_update()).one()
    if row.detail.get("ineffective"):
        return False
    tx.connection.execute(update(table).where(table.c.id == run_id).values(detail={**row.detail, "ineffective": True}))
    return True


def lock_holder(connection: Connection, target: str, other_than: str) -> str | None:
    """The run that has its hand on a target, if another one has."""
    statement = select(table.c.id).where(table.c.target == target, table.c.holds_target, table.c.id != other_than)
    return connection.execute(statement).scalar()


def get(connection: Connection, run_id: str, *, lock: bool = False) -> Run | None:
    """One, by its id; ``lock`` it against other transactions' changes."""
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
) -> list[Run]:
    """Newest first; ``before`` is the (created_at, id) of the last one on the page before."""
    statement = select(table).order_by(table.c.created_at.desc(), table.c.id.desc()).limit(limit)
    if before is not None:
        statement = statement.where(tuple_(table.c.created_at, table.c.id) < before)
    if open_only:
        statement = statement.where(table.c.status.in_(_OPEN))
    for column, value in ((table.c.playbook, playbook), (table.c.target, target), (table.c.status, status)):
        if value is not None:
            statement = statement.where(column == value)
    return [_run(row) for row in connection.execute(statement)]


def count_by_status(connection: Connection, playbook: str, last: int = 500) -> dict[str, int]:
    """How the last runs of a playbook ended, or stand: how many by status. Cost does not grow with history."""
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
    """When the next run is due that nobody works on, and that this version may; without those of ``busy``."""
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
    """An audit entry about a run."""
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
    """The runs that have their hand on a target."""
    return [_run(row) for row in connection.execute(_HOLDING)]


_HOLDING = select(table).where(table.c.holds_target)
