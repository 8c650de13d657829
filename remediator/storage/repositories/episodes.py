"""Episodes: one stretch of one alert firing."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, bindparam, insert, select, tuple_, update

from remediator.core.run import Episode, EpisodeKind, EpisodeStatus, LastUpdate
from remediator.storage import Tx
from remediator.storage.column_types import Instant
from remediator.storage.prepared import Prepared
from remediator.storage.schema import episodes as table
from remediator.storage.schema import run_episodes, runs

_BATCH = 500  # host parameters in one statement
_MAX_BATCHES = 40  # maximum number of batches in one search
_JOINS = timedelta(days=1)
"""An alert can be added to an open run that began up to this much earlier."""


def _episode(row: Row[Any]) -> Episode:
    return Episode(**{**row._asdict(), "status": EpisodeStatus(row.status), "kind": EpisodeKind(row.kind)})


def get_open(connection: Connection, identities: Sequence[str]) -> dict[str, Episode]:
    """Return the episodes of these alerts that are not closed, by identity; at most one each."""
    found: dict[str, Episode] = {}
    for start in range(0, len(identities), _BATCH):
        rows = connection.execute(_OPEN, {"identities": identities[start : start + _BATCH]})
        found.update((row.identity, _episode(row)) for row in rows)
    return found


_OPEN = Prepared(
    select(table).where(
        table.c.identity.in_(bindparam("identities", expanding=True)), table.c.status != EpisodeStatus.CLOSED.value
    )
)


def get_last_updates(connection: Connection, identities: Sequence[str]) -> dict[str, LastUpdate]:
    """Return the last update of those alerts that are firing. In a flood, most notifications need no more than this."""
    found: dict[str, LastUpdate] = {}
    for start in range(0, len(identities), _BATCH):
        for identity, *said in connection.execute(_LATEST, {"identities": identities[start : start + _BATCH]}):
            found[identity] = LastUpdate(EpisodeStatus.FIRING, *said)
    return found


_LATEST = Prepared(
    select(table.c.identity, table.c.last_seen_at, table.c.annotations).where(
        table.c.identity.in_(bindparam("identities", expanding=True)),
        table.c.status == EpisodeStatus.FIRING.value,
        table.c.status != EpisodeStatus.CLOSED.value,  # the condition of the partial index
    )
)


def insert_all(tx: Tx, episodes: Collection[Episode]) -> None:
    """Insert new episodes."""
    if episodes:
        names = Episode.__dataclass_fields__
        tx.connection.execute(_INSERT, [{name: getattr(item, name) for name in names} for item in episodes])


_INSERT = Prepared(insert(table))


_CHANGING = ("status", "annotations", "starts_at", "last_seen_at", "resolved_at", "closes_at", "flaps")
_UPDATE = Prepared(
    update(table).where(table.c.id == bindparam("key")).values({name: bindparam(name) for name in _CHANGING})
)


def update_all(tx: Tx, episodes: Collection[Episode]) -> None:
    """Update changed episodes."""
    if episodes:
        rows = [{"key": item.id, **{name: getattr(item, name) for name in _CHANGING}} for item in episodes]
        tx.connection.execute(_UPDATE, rows)


def get(connection: Connection, episode_id: str) -> Episode | None:
    """Return an episode by its ID, or None."""
    row = connection.execute(select(table).where(table.c.id == episode_id)).first()
    return None if row is None else _episode(row)


def list_open(connection: Connection, limit: int = 1000) -> list[Episode]:
    """Return the episodes that are not closed, newest first."""
    statement = select(table).where(table.c.status != EpisodeStatus.CLOSED.value)
    return [_episode(row) for row in connection.execute(statement.order_by(table.c.started_at.desc()).limit(limit))]


def list_for_run(connection: Connection, run_id: str) -> list[Episode]:
    """Return the episodes of a run, in the order in which they were added."""
    return [_episode(row) for row in connection.execute(_OF_RUN, {"run": run_id})]


_OF_RUN = Prepared(
    select(table)
    .join(run_episodes, run_episodes.c.episode_id == table.c.id)
    .where(run_episodes.c.run_id == bindparam("run"))
    .order_by(run_episodes.c.joined_at, table.c.id)
)


def list_firing(connection: Connection, source: str) -> list[Episode]:
    """Return the episodes of the alerts of one source that fire."""
    return [_episode(row) for row in connection.execute(_FIRING, {"origin": source})]


_FIRES = (table.c.status == EpisodeStatus.FIRING.value, table.c.kind == EpisodeKind.ALERT.value)
_NOT_CLOSED = table.c.status != EpisodeStatus.CLOSED.value  # the condition of the partial index
_FIRING = Prepared(select(table).where(*_FIRES, _NOT_CLOSED, table.c.source == bindparam("origin")))


def close_manual(tx: Tx, run_id: str) -> list[str]:
    """Close the manual episodes of a run, because it has ended; returns their IDs."""
    return list(tx.connection.execute(_CLOSE_MANUAL, {"run": run_id, "at": tx.now}).scalars())


_IDS_OF_RUN = select(run_episodes.c.episode_id).where(run_episodes.c.run_id == bindparam("run"))
_CLOSE_MANUAL = Prepared(
    update(table)
    .where(table.c.id.in_(_IDS_OF_RUN), table.c.kind == EpisodeKind.MANUAL.value, _NOT_CLOSED)
    .values(status=EpisodeStatus.CLOSED.value, resolved_at=bindparam("at", type_=Instant))
    .returning(table.c.id)
)


def list_due_to_close(connection: Connection, now: datetime) -> list[Episode]:
    """Return up to 500 resolved episodes whose resolve_grace is over."""
    return [_episode(row) for row in connection.execute(_DUE_TO_CLOSE, {"now": now})]


_DUE_TO_CLOSE = Prepared(
    select(table)
    .where(table.c.status == EpisodeStatus.RESOLVED.value, table.c.closes_at <= bindparam("now", type_=Instant))
    .order_by(table.c.closes_at)
    .limit(500)
)


def next_close_at(connection: Connection) -> datetime | None:
    """Return when the next resolve_grace ends; None if no episode is resolved."""
    return connection.execute(_NEXT_CLOSING).scalar()


_NEXT_CLOSING = Prepared(
    select(table.c.closes_at).where(table.c.status == EpisodeStatus.RESOLVED.value).order_by(table.c.closes_at).limit(1)
)


def run_ids_by_episode(connection: Connection, episode_ids: Iterable[str]) -> dict[str, list[str]]:
    """Return the IDs of the runs of each of these episodes."""
    found: dict[str, list[str]] = {}
    ids = list(episode_ids)
    for start in range(0, len(ids), _BATCH):
        for row in connection.execute(_RUNS_OF, {"ids": ids[start : start + _BATCH]}):
            found.setdefault(row.episode_id, []).append(row.run_id)
    return found


_RUNS_OF = Prepared(
    select(run_episodes.c.episode_id, run_episodes.c.run_id).where(
        run_episodes.c.episode_id.in_(bindparam("ids", expanding=True))
    )
)


def run_ids_of_alert(
    connection: Connection,
    alertname: str,
    limit: int,
    before: tuple[datetime, str] | None = None,
    between: tuple[datetime | None, datetime | None] = (None, None),
    **wanted: str | None,
) -> list[str]:
    """Return the IDs of at least ``limit`` runs of an alert, if they exist, from its newest episodes on.

    Args:
        before: only runs before this (created_at, id), as in :func:`remediator.storage.repositories.runs.list_page`.
        between: only runs that began then or later, and before then.
        wanted: only runs with this playbook, target, status or severity.
    """
    chosen = [runs.c[name] == value for name, value in wanted.items() if value is not None]
    since, until = between
    if since is not None:
        chosen.append(runs.c.created_at >= since)
    if until is not None:
        chosen.append(runs.c.created_at < until)
    newest = select(table.c.id).where(table.c.alertname == alertname)
    if before is not None:
        chosen.append(tuple_(runs.c.created_at, runs.c.id) < before)
        newest = newest.where(table.c.started_at <= before[0] + _JOINS)
    newest = newest.order_by(table.c.started_at.desc()).limit(_BATCH)
    found: dict[str, None] = {}
    for start in range(0, _BATCH * _MAX_BATCHES, _BATCH):  # one run may be for hundreds of alerts
        batch = list(connection.execute(newest.offset(start)).scalars())
        joined = select(runs.c.id).join(run_episodes, run_episodes.c.run_id == runs.c.id)
        joined = joined.where(run_episodes.c.episode_id.in_(batch), *chosen)
        found.update(dict.fromkeys(connection.execute(joined).scalars()))
        if len(found) >= limit or len(batch) < _BATCH:
            break
    return list(found)
