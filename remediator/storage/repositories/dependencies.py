"""The state of services on which others depend: firing alerts and active runs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Text, bindparam, or_, select, type_coerce

from remediator.core.run import EpisodeStatus, Status
from remediator.storage.prepared import Prepared
from remediator.storage.repositories.target_locks import ActingRun
from remediator.storage.schema import episodes, run_episodes
from remediator.storage.schema import runs as table

_ACTING = (Status.RUNNING, Status.VERIFYING, Status.UNKNOWN_OUTCOME)


@dataclass(frozen=True, slots=True)
class DependencyAlert:
    """A firing alert of a service."""

    service: str
    episode: str
    alertname: str
    since: datetime


def list_active_runs(connection: Connection, targets: Sequence[str]) -> list[ActingRun]:
    """Return the runs that act on these targets or hold their lock."""
    return [ActingRun(*row) for row in connection.execute(_ACTIVE, {"targets": list(targets)})]


_ACTIVE = Prepared(
    select(table.c.id, table.c.target, table.c.playbook).where(
        table.c.target.in_(bindparam("targets", expanding=True)),
        or_(table.c.holds_target, table.c.status.in_([status.value for status in _ACTING])),
    )
)


def list_firing(connection: Connection, services: Sequence[str], label: str) -> list[DependencyAlert]:
    """Return the firing alerts of these services, oldest first: alerts with a run there, and alerts with this label."""
    with_run = connection.execute(_WITH_RUN, {"services": list(services)})
    found = {DependencyAlert(*row) for row in with_run}
    # The labels are searched as text: they are compact JSON, with a name next to its value and with escaped quotes.
    text = type_coerce(episodes.c.labels, Text)
    pairs = {name: f"{json.dumps(label)}:{json.dumps(name, ensure_ascii=False)}" for name in services}
    rows = connection.execute(
        select(episodes.c.id, episodes.c.alertname, episodes.c.started_at, episodes.c.labels)
        .where(
            episodes.c.status == EpisodeStatus.FIRING.value,
            episodes.c.status != EpisodeStatus.CLOSED.value,  # the condition of the partial index
            or_(*(text.contains(pair, autoescape=True) for pair in pairs.values())),
        )
        .limit(100)
    )
    for row in rows:
        if row.labels.get(label) in pairs:
            found.add(DependencyAlert(row.labels[label], row.id, row.alertname, row.started_at))
    return sorted(found, key=lambda item: item.since)


_WITH_RUN = Prepared(
    select(table.c.target, episodes.c.id, episodes.c.alertname, episodes.c.started_at)
    .join(run_episodes, run_episodes.c.run_id == table.c.id)
    .join(episodes, episodes.c.id == run_episodes.c.episode_id)
    .where(
        table.c.incident_open,
        table.c.target.in_(bindparam("services", expanding=True)),
        episodes.c.status == EpisodeStatus.FIRING.value,
    )
    .limit(100)
)
