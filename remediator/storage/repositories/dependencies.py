"""What goes on at services that others depend on: alerts that fire there, repairs that are under way."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Text, or_, select, type_coerce

from remediator.core.run import EpisodeStatus, Run, Status
from remediator.storage.repositories import runs
from remediator.storage.schema import episodes, run_episodes
from remediator.storage.schema import runs as table

_REPAIRING = (Status.RUNNING, Status.VERIFYING, Status.UNKNOWN_OUTCOME)


@dataclass(frozen=True, slots=True)
class DependencyAlert:
    """An alert that fires at a service."""

    service: str
    episode: str
    alertname: str
    since: datetime


def list_active_runs(connection: Connection, targets: Sequence[str]) -> list[Run]:
    """The runs that work on these targets, or have their hand on them still."""
    statement = select(table.c.id).where(
        table.c.target.in_(targets),
        or_(table.c.holds_target, table.c.status.in_([status.value for status in _REPAIRING])),
    )
    found = (runs.get(connection, run_id) for run_id in connection.execute(statement).scalars().all())
    return [run for run in found if run is not None]


def list_firing(connection: Connection, services: Sequence[str], label: str) -> list[DependencyAlert]:
    """The alerts that fire at these services, longest first: those with a run there, and those labelled so."""
    return sorted(
        {*_with_run(connection, services), *_labelled(connection, services, label)}, key=lambda item: item.since
    )


def _with_run(connection: Connection, services: Sequence[str]) -> list[DependencyAlert]:
    rows = connection.execute(
        select(table.c.target, episodes.c.id, episodes.c.alertname, episodes.c.started_at)
        .join(run_episodes, run_episodes.c.run_id == table.c.id)
        .join(episodes, episodes.c.id == run_episodes.c.episode_id)
        .where(
            table.c.incident_open,
            table.c.target.in_(services),
            episodes.c.status == EpisodeStatus.FIRING.value,
        )
        .limit(100)
    )
    return [DependencyAlert(*row) for row in rows]


def _labelled(connection: Connection, services: Sequence[str], label: str) -> list[DependencyAlert]:
    """Labels are stored as compact JSON, where a name and its value stand side by side and quotes are escaped."""
    text = type_coerce(episodes.c.labels, Text)
    pairs = {name: f"{json.dumps(label)}:{json.dumps(name, ensure_ascii=False)}" for name in services}
    rows = connection.execute(
        select(episodes.c.id, episodes.c.alertname, episodes.c.started_at, episodes.c.labels)
        .where(
            episodes.c.status == EpisodeStatus.FIRING.value,
            episodes.c.status != EpisodeStatus.CLOSED.value,  # as the index says
            or_(*(text.contains(pair, autoescape=True) for pair in pairs.values())),
        )
        .limit(100)
    )
    return [
        DependencyAlert(row.labels[label], row.id, row.alertname, row.started_at)
        for row in rows
        if row.labels.get(label) in pairs
    ]
