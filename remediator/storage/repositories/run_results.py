"""Results of earlier runs that acted, for the guards ramp and circuit_breaker."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Integer, Row, Subquery, bindparam, select, union_all

from remediator.core.run import OPEN, Status
from remediator.storage.column_types import Instant
from remediator.storage.prepared import Prepared
from remediator.storage.schema import runs as table


@dataclass(frozen=True, slots=True)
class RunResult:
    """A run that acted, and its result."""

    id: str
    target: str
    began: datetime
    """Its first action."""
    ended: datetime | None
    healed: bool | None
    """None while it is open or if it was cancelled, because neither says anything about the remedy."""


_HEALED = {Status.SUCCEEDED.value: True, Status.FAILED.value: False, Status.ESCALATED.value: False}
_ACTING = sorted(status.value for status in OPEN)
_PLAYBOOK = table.c.playbook == bindparam("playbook")
_SINCE = table.c.first_action_at >= bindparam("since", type_=Instant)
_SELECTED = (table.c.id, table.c.target, table.c.first_action_at, table.c.finished_at, table.c.status)


def _results(rows: Iterable[Row[Any]]) -> list[RunResult]:
    return [
        RunResult(row.id, row.target, row.first_action_at, row.finished_at, _HEALED.get(row.status)) for row in rows
    ]


def list_wave(
    connection: Connection, playbook: str, since: datetime, other_than: tuple[str, str], most: tuple[int, int]
) -> list[RunResult]:
    """Return the other runs of a playbook that acted since then: those that still act, and the newest that ended.

    Args:
        connection: to the store.
        playbook: name of the playbook.
        since: of their first action.
        other_than: ID and target of the run that does not count.
        most: how many healed runs and how many failed ones can matter.
    """
    values = {"playbook": playbook, "since": since, "run": other_than[0], "target": other_than[1]}
    values |= {"most_healed": most[0], "most_failed": most[1]}
    return _results(connection.execute(_WAVE, values))


_OTHERS = (_PLAYBOOK, _SINCE, table.c.id != bindparam("run"), table.c.target != bindparam("target"))


def _newest(status: Status, most: str) -> Subquery:
    chosen = select(*_SELECTED).where(*_OTHERS, table.c.status == status.value)
    return chosen.order_by(table.c.first_action_at.desc()).limit(bindparam(most, type_=Integer)).subquery()


_WAVE = Prepared(
    union_all(
        select(*_SELECTED).where(*_OTHERS, table.c.status.in_(_ACTING)),
        select(_newest(Status.SUCCEEDED, "most_healed")),
        select(_newest(Status.FAILED, "most_failed")),
        select(_newest(Status.ESCALATED, "most_failed")),
    )
)


def list_latest(
    connection: Connection, playbook: str, since: datetime, target: str, most: tuple[int, int]
) -> list[RunResult]:
    """Return the runs of a playbook that acted since then and ended last, without the cancelled ones, oldest first.

    Args:
        connection: to the store.
        playbook: name of the playbook.
        since: of their first action.
        target: the target of which more healed runs are returned.
        most: how many runs of all targets, and how many healed runs of this target.
    """
    values = {"playbook": playbook, "since": since, "target": target, "most_all": most[0], "most_healed": most[1]}
    found = {run.id: run for run in _results(connection.execute(_LATEST, values))}
    return sorted(found.values(), key=lambda run: (run.ended or run.began, run.id))


_ENDED = (
    select(*_SELECTED)
    .where(_PLAYBOOK, _SINCE, table.c.first_action_at.is_not(None), table.c.finished_at.is_not(None))
    .order_by(table.c.finished_at.desc(), table.c.id.desc())
)
_status_text = table.c.status + ""  # not the column itself: its index would find all runs, which then had to be sorted
_ALL_ENDED = _ENDED.where(_status_text.in_(sorted(_HEALED))).limit(bindparam("most_all", type_=Integer)).subquery()
_HEALED_THERE = (
    _ENDED.where(table.c.target == bindparam("target"), _status_text == Status.SUCCEEDED.value)
    .limit(bindparam("most_healed", type_=Integer))
    .subquery()
)
_LATEST = Prepared(union_all(select(_ALL_ENDED), select(_HEALED_THERE)))


def find_acting(connection: Connection, playbook: str, since: datetime, other_than: str) -> RunResult | None:
    """Return the first other run of a playbook that acted since then and has no result yet; None if there is none."""
    values = {"playbook": playbook, "since": since, "run": other_than}
    return next(iter(_results(connection.execute(_TRIAL, values))), None)


_TRIAL = Prepared(
    select(*_SELECTED)
    .where(_PLAYBOOK, _SINCE, table.c.id != bindparam("run"), table.c.status.in_(_ACTING))
    .order_by(table.c.first_action_at, table.c.id)
    .limit(1)
)
