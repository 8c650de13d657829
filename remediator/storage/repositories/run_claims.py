"""Claims on runs: leases and fencing tokens, which every write to a claimed run checks (promise 4)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from functools import cache
from typing import Any

from sqlalchemy import Connection, Integer, bindparam, case, select, update

from remediator.core.plan import Plan
from remediator.core.run import ENGINE_VERSION, TERMINAL, Reason, Run, Status, decode_detail
from remediator.core.run_detail import Detail
from remediator.errors import Fenced
from remediator.storage import Tx
from remediator.storage.column_types import Instant, as_stored
from remediator.storage.prepared import Prepared
from remediator.storage.repositories.runs import COLUMNS, FIELDS, OPEN_STATUSES, from_row, get
from remediator.storage.repositories.target_locks import lock_holder, may_still_act
from remediator.storage.schema import runs as table

_VOLATILE = ("incident_id", "wakeup_count", "cancel_request", "lease_until", "wake_at", "incident_open")
"""The columns of a claimed run that other processes may change.

Only the process with the claim changes all other columns.
"""
_MAX_LOST_CLAIMS = 1_000_000
"""More claims of one run than a failover can lose."""


def claim_due(
    tx: Tx,
    owner: str,
    lease: timedelta,
    limit: int,
    busy: Collection[str] = (),
) -> list[Run]:
    """Claim up to ``limit`` due runs that no replica processes. Each gets the next fencing token.

    Args:
        busy: runs that this process still processes, even if their leases expired. After a jump of the clock it must
            not claim them from itself.
    """
    values = {"now": tx.now, "until": tx.now + lease, "owner": owner, "most": limit}
    rows = tx.connection.execute(_claim(tx.connection.dialect.name), {**values, "busy": list(busy)})
    return [from_row(row) for row in rows]


@cache
def _claim(dialect: str) -> Prepared:
    """Build the statement once: it runs at least every second."""
    now = bindparam("now", type_=Instant)
    due = (
        select(table.c.id)
        .where(
            table.c.wake_at <= now,
            (table.c.lease_until.is_(None)) | (table.c.lease_until < now),
            table.c.engine_version <= ENGINE_VERSION,
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
    return Prepared(
        update(table)
        .where(table.c.id.in_(chosen))
        .values(lease_owner=bindparam("owner"), lease_until=bindparam("until", type_=Instant), fence=table.c.fence + 1)
        .returning(*COLUMNS)
    )


def claim_finished(tx: Tx, run_id: str, owner: str, lease: timedelta) -> Run | None:
    """Claim an ended run, to undo its actions.

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
        .returning(*COLUMNS)
    ).first()
    return None if row is None else from_row(row)


def release_claim(tx: Tx, run: Run) -> None:
    """Release the claim on an ended run, and its target lock unless one of its calls may still take effect.

    Raises:
        Fenced: the claim is lost.
    """
    save(tx, run, lease_owner=None, lease_until=None, holds_target=may_still_act(tx.connection, run.id))


def void_claims(tx: Tx) -> None:
    """Void all claims: what their processes remember may not be in this database.

    The leases stay, so that no other process takes a run over while a call of the last one may still be in progress.
    The lost commits may have claimed a run several times, so the next fencing tokens are beyond any that they gave.
    """
    held = table.c.lease_owner.is_not(None) | table.c.status.in_(OPEN_STATUSES)
    tx.connection.execute(update(table).where(held).values(fence=table.c.fence + _MAX_LOST_CLAIMS))


def save(tx: Tx, run: Run, **changes: Any) -> Run:
    """Change columns of a claimed run. Every write to a claimed run goes through here.

    The conditions defend promise 4, exclusive claims. The fencing token and the owner must be those of the claim, and
    its lease must not have expired. A process that was paused therefore changes nothing after it has lost the run.

    Returns:
        the run with these changes, and with the changes of other processes.

    Raises:
        Fenced: the claim is lost; nothing was changed.
    """
    values = {name: _plain(value) for name, value in changes.items()}
    return _save(tx, run, _save_columns(tuple(values)), values, changes)


def _save(tx: Tx, run: Run, statement: Prepared, values: Mapping[str, Any], changes: Mapping[str, Any]) -> Run:
    held = {"its_id": run.id, "its_fence": run.fence, "its_owner": run.lease_owner, "at": tx.now}
    row = tx.connection.execute(statement, {**values, **held}).first()
    if row is None:
        raise Fenced(
            f"run {run.id}: claim {run.fence} of {run.lease_owner} is lost; another process has it or will claim it"
        )
    return replace(changed(run, tx.now, changes), **dict(zip(_VOLATILE, row, strict=True)))


def _held(**named: Any) -> Prepared:
    """Return the fenced statement that changes a claimed run; it returns the columns that others may change."""
    at = bindparam("at", type_=Instant)
    return Prepared(
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
def _save_columns(names: tuple[str, ...]) -> Prepared:
    """Build the statement for these columns once."""
    return _held(**{name: bindparam(name, type_=table.c[name].type) for name in names})


def changed(run: Run, now: datetime, changes: Mapping[str, Any]) -> Run:
    """Return a run with changed columns, as the store would return it after the write."""
    after = {"updated_at": now, **{name: value for name, value in changes.items() if name in FIELDS}}
    if (plan := after.get("plan")) is not None:
        after["plan"] = Plan.from_data(as_stored(plan.to_data()))
    if "detail" in after:
        after["detail"] = decode_detail(after.get("status", run.status), as_stored(after["detail"].to_data()))
    return replace(run, **after)


def _plain(value: Any) -> Any:
    if isinstance(value, Status | Reason):
        return value.value
    return value.to_data() if isinstance(value, Detail | Plan) else value


def renew_lease(tx: Tx, run: Run, lease: timedelta) -> Run:
    """Extend the lease of a claim to this time from now, unless it lasts longer already."""
    return _save(tx, run, _RENEW, {"until": tx.now + lease}, {})


_UNTIL = bindparam("until", type_=Instant)
_RENEW = _held(lease_until=case((table.c.lease_until < _UNTIL, _UNTIL), else_=table.c.lease_until))


def release(tx: Tx, run: Run, wake_at: datetime | None, wakeup_count: int) -> None:
    """Release a claimed run until ``wake_at``; it is due at once if an event has arrived.

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


_NOTIFIED = (table.c.wakeup_count != bindparam("seen")) & table.c.status.in_(OPEN_STATUSES)
_RELEASE = _held(
    lease_owner=None,
    lease_until=None,
    wake_at=case((_NOTIFIED, bindparam("at", type_=Instant)), else_=bindparam("due", type_=Instant)),
)


def clear_leases(tx: Tx) -> int:
    """Clear every lease. Safe only if this is the only process, as on SQLite with its lock file."""
    return tx.connection.execute(
        update(table).where(table.c.lease_owner.is_not(None)).values(lease_owner=None, lease_until=None)
    ).rowcount


def next_wake_at(connection: Connection, now: datetime, busy: Collection[str] = ()) -> datetime | None:
    """Return when the next run is due that is not claimed at ``now``, not ``busy``, and not of a newer version."""
    return connection.execute(_NEXT_WAKE, {"now": now, "busy": list(busy)}).scalar()


_NEXT_WAKE = Prepared(
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
