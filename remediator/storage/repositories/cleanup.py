"""Delete old runs with all their rows, and other rows that are not needed any more."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from sqlalchemy import delete, exists, func, or_, select

from remediator.storage import Tx
from remediator.storage.repositories import baselines
from remediator.storage.repositories.runs import OPEN_STATUSES
from remediator.storage.schema import (
    audit,
    episodes,
    messages,
    playbook_versions,
    remedy_memory,
    run_episodes,
    stops,
    timers,
)
from remediator.storage.schema import runs as table


def delete_runs(tx: Tx, until: datetime, limit: int, *, sealed: bool) -> list[str]:
    """Delete runs that ended before ``until``, the oldest first. Return their IDs.

    A run stays while its incident is open, or while it has a target lock, a claim, a scheduled undo or an unsent
    message.

    Args:
        sealed: keep also the runs that have entries in the database's part of the audit log.
    """
    later = exists().where(timers.c.run_id == table.c.id, timers.c.done_at.is_(None))
    unsent = exists().where(messages.c.run_id == table.c.id, messages.c.status == "waiting")
    over = (table.c.finished_at < until, table.c.lease_owner.is_(None), ~table.c.incident_open, ~table.c.holds_target)
    old = (
        select(table.c.id, table.c.playbook, table.c.mode, table.c.first_action_at)
        .where(table.c.created_at < until, *over, ~later, ~unsent)
        .order_by(table.c.created_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    if sealed:
        old = old.where(~exists().where(audit.c.run_id == table.c.id))
    rows = tx.connection.execute(old).all()
    ids = [row.id for row in rows]
    for row in rows:
        if row.mode == "auto" and row.first_action_at is not None:
            baselines.record_automatic_action(tx, row.playbook, row.first_action_at, _alerts(tx, row.id))
    if ids:
        tx.connection.execute(delete(table).where(table.c.id.in_(ids)))
    return ids


def _alerts(tx: Tx, run_id: str) -> dict[str, datetime]:
    statement = (
        select(episodes.c.alertname, func.min(episodes.c.started_at))
        .join(run_episodes, run_episodes.c.episode_id == episodes.c.id)
        .where(run_episodes.c.run_id == run_id)
        .group_by(episodes.c.alertname)
    )
    return {name: began for name, began in tx.connection.execute(statement)}


def delete_episodes(tx: Tx, until: datetime, limit: int) -> int:
    """Delete episodes that ended before ``until`` and belong to no run. Return their number."""
    needed = exists().where(run_episodes.c.episode_id == episodes.c.id)
    over = (episodes.c.status == "closed", episodes.c.last_seen_at < until, ~needed)
    old = (
        select(episodes.c.id, episodes.c.alertname, episodes.c.started_at, episodes.c.resolved_at)
        .where(episodes.c.started_at < until, *over)
        .order_by(episodes.c.started_at)
        .limit(limit)
    )
    rows = tx.connection.execute(old).all()
    lengths: dict[str, list[tuple[datetime, datetime]]] = {}
    for row in rows:
        if row.resolved_at is not None:
            lengths.setdefault(row.alertname, []).append((row.started_at, row.resolved_at))
    for alertname, pairs in lengths.items():
        baselines.record_durations(tx, alertname, pairs)
    if rows:
        tx.connection.execute(delete(episodes).where(episodes.c.id.in_([row.id for row in rows])))
    return len(rows)


def delete_messages(tx: Tx, until: datetime, limit: int) -> int:
    """Delete old messages that belong to no run and do not wait. Return their number. Others go with their run."""
    over = (messages.c.run_id.is_(None), messages.c.status != "waiting", messages.c.created_at < until)
    old = select(messages.c.id).where(*over).limit(limit)
    ids = list(tx.connection.execute(old).scalars())
    if ids:
        tx.connection.execute(delete(messages).where(messages.c.id.in_(ids)))
    return len(ids)


def delete_stops(tx: Tx, until: datetime, limit: int) -> int:
    """Delete stops that were released or expired before ``until``. Return their number."""
    over = or_(stops.c.released_at < until, stops.c.expires_at < until)
    ids = list(tx.connection.execute(select(stops.c.id).where(over).limit(limit)).scalars())
    if ids:
        tx.connection.execute(delete(stops).where(stops.c.id.in_(ids)))
    return len(ids)


def delete_memory(tx: Tx, until: datetime, limit: int) -> int:
    """Delete the memory of releases and remedies from before ``until``. Return the number of entries."""
    ids = list(
        tx.connection.execute(select(remedy_memory.c.id).where(remedy_memory.c.at < until).limit(limit)).scalars()
    )
    if ids:
        tx.connection.execute(delete(remedy_memory).where(remedy_memory.c.id.in_(ids)))
    return len(ids)


def delete_playbook_versions(tx: Tx, until: datetime, limit: int, *, active: Collection[str]) -> int:
    """Delete playbook versions from before ``until`` that are neither active nor used by an open run. Return their
    number."""
    going = select(table.c.playbook_hash).where(table.c.status.in_(OPEN_STATUSES))
    hashes = playbook_versions.c.hash
    old = (
        select(hashes)
        .where(playbook_versions.c.first_loaded_at < until, hashes.not_in(active), hashes.not_in(going))
        .limit(limit)
    )
    gone = list(tx.connection.execute(old).scalars())
    if gone:
        tx.connection.execute(delete(playbook_versions).where(hashes.in_(gone)))
    return len(gone)
