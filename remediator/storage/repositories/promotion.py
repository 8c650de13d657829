"""The data on which an operator decides about the mode of a playbook: its runs, and the decisions on them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, func, select

from remediator.core.run import EpisodeStatus
from remediator.storage.schema import approvals, episodes, run_episodes
from remediator.storage.schema import runs as table


@dataclass(frozen=True, slots=True)
class RunDecision:
    """A run and the decision on it."""

    playbook: str
    mode: str
    status: str
    reason: str | None
    blocked_by: str | None
    created_at: datetime
    first_action_at: datetime | None
    approval: str | None
    """The status of the last approval request of the run; None without a request."""
    asked_at: datetime | None
    decided_at: datetime | None
    would: str | None
    """The action that mode ``shadow`` prevented: act, ask or nothing. None in other modes, and if no action was due."""
    alert_over_at: datetime | None
    """When the last of its alerts was resolved; None while an alert fires."""


def list_since(connection: Connection, since: datetime, playbook: str | None = None) -> list[RunDecision]:
    """Return the runs created since then, oldest first."""
    chosen = select(table).where(table.c.created_at >= since).order_by(table.c.created_at, table.c.id)
    if playbook is not None:
        chosen = chosen.where(table.c.playbook == playbook)
    return [_decided(connection, row) for row in connection.execute(chosen).all()]


def _decided(connection: Connection, row: Row[Any]) -> RunDecision:
    run_id: str = row.id
    asked = connection.execute(
        select(approvals).where(approvals.c.run_id == run_id).order_by(approvals.c.requested_at.desc()).limit(1)
    ).first()
    return RunDecision(
        playbook=row.playbook,
        mode=row.mode,
        status=row.status,
        reason=row.reason,
        blocked_by=row.blocked_by,
        created_at=row.created_at,
        first_action_at=row.first_action_at,
        approval=None if asked is None else asked.status,
        asked_at=None if asked is None else asked.requested_at,
        decided_at=None if asked is None else asked.decided_at,
        would=row.detail.get("would"),
        alert_over_at=_over(connection, run_id),
    )


def _over(connection: Connection, run_id: str) -> datetime | None:
    joined = episodes.join(run_episodes, run_episodes.c.episode_id == episodes.c.id)
    mine = select(episodes.c.id).select_from(joined).where(run_episodes.c.run_id == run_id)
    firing = connection.execute(mine.where(episodes.c.status == EpisodeStatus.FIRING.value).limit(1)).first()
    if firing is not None:
        return None
    over: datetime | None = connection.execute(
        select(func.max(episodes.c.resolved_at)).select_from(joined).where(run_episodes.c.run_id == run_id)
    ).scalar()
    return over
