"""Results of earlier runs that acted, for the guards ramp and circuit_breaker."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Integer, Row, Select, bindparam, func, literal_column, select, tuple_, union_all

from remediator.core.run import Status
from remediator.storage.column_types import Instant
from remediator.storage.prepared import Prepared
from remediator.storage.repositories.runs import OPEN_STATUSES
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
    """None for an open or cancelled run, because it proves nothing about the remedy."""


_HEALED = {Status.SUCCEEDED.value: True, Status.FAILED.value: False, Status.ESCALATED.value: False}
_PLAYBOOK = table.c.playbook == bindparam("playbook")
_SINCE = table.c.first_action_at >= bindparam("since", type_=Instant)
_SELECTED = (table.c.id, table.c.target, table.c.first_action_at, table.c.finished_at, table.c.status)


def _results(rows: Iterable[Row[Any]]) -> list[RunResult]:
    return [
        RunResult(row.id, row.target, row.first_action_at, row.finished_at, _HEALED.get(row.status)) for row in rows
    ]


@dataclass(frozen=True, slots=True)
class Wave:
    """How many other runs of a playbook acted, by result, each at most as many as can matter."""

    acting: int
    healed: int
    failed: int


def count_wave(
    connection: Connection, playbook: str, since: datetime, other_than: tuple[str, str], most: tuple[int, int]
) -> Wave:
    """Count the other runs of a playbook that acted since then: acting runs, and ended runs.

    Args:
        connection: to the store.
        playbook: name of the playbook.
        since: of their first action.
        other_than: ID and target of the run that does not count.
        most: how many runs of the wave, healed or acting, and how many failed ones can matter.
    """
    values = _of_others(playbook, since, other_than) | {"most_healed": most[0], "most_failed": most[1]}
    return Wave(*connection.execute(_WAVE, values).one())


def list_acting(connection: Connection, playbook: str, since: datetime, other_than: tuple[str, str]) -> list[RunResult]:
    """Return the other runs of a playbook that acted since then and still act, as :func:`count_wave` counts them."""
    return _results(connection.execute(_STILL_ACTING, _of_others(playbook, since, other_than)))


def list_failed(
    connection: Connection, playbook: str, since: datetime, other_than: tuple[str, str], most: int
) -> list[RunResult]:
    """Return the newest other runs of a playbook that acted since then and did not heal, newest first."""
    values = _of_others(playbook, since, other_than) | {"most_failed": most}
    return _results(connection.execute(_NEWEST_FAILED, values))


def _of_others(playbook: str, since: datetime, other_than: tuple[str, str]) -> dict[str, Any]:
    return {"playbook": playbook, "since": since, "run": other_than[0], "target": other_than[1]}


_OTHERS = (_PLAYBOOK, _SINCE, table.c.id != bindparam("run"), table.c.target != bindparam("target"))


def _others(statuses: Sequence[str]) -> Select[Any]:
    return select(*_SELECTED).where(*_OTHERS, table.c.status.in_(statuses))


def _counted(statuses: Sequence[str], most: str) -> Any:
    some = _others(statuses).with_only_columns(table.c.id).limit(bindparam(most, type_=Integer)).subquery()
    return select(func.count()).select_from(some).scalar_subquery()


_FAILED = sorted(status for status, healed in _HEALED.items() if not healed)
_WAVE = Prepared(
    select(
        _counted(OPEN_STATUSES, "most_healed").label("acting"),
        _counted([Status.SUCCEEDED.value], "most_healed").label("healed"),
        _counted(_FAILED, "most_failed").label("failed"),
    )
)
_STILL_ACTING = Prepared(_others(OPEN_STATUSES))
_NEWEST_FAILED = Prepared(
    _others(_FAILED).order_by(table.c.first_action_at.desc()).limit(bindparam("most_failed", type_=Integer))
)


def list_latest(
    connection: Connection, playbook: str, since: datetime, target: str, most: tuple[int, int]
) -> tuple[list[RunResult], list[RunResult]]:
    """Return the runs of a playbook that acted since then: the failed runs after the last success, and the runs that
    healed the target. Both are ordered from the oldest.

    Args:
        connection: to the store.
        playbook: name of the playbook.
        since: of their first action.
        target: the target.
        most: maximum number of each, the newest.
    """
    values = {"playbook": playbook, "since": since, "target": target, "most_failed": most[0], "most_healed": most[1]}
    found = sorted(_results(connection.execute(_LATEST, values)), key=lambda run: (run.ended or run.began, run.id))
    return [run for run in found if not run.healed], [run for run in found if run.healed]


_ENDED = (_PLAYBOOK, _SINCE, table.c.first_action_at.is_not(None), table.c.finished_at.is_not(None))
# not the column itself: its index would find all runs, and the database would have to sort them
_status_text = table.c.status + ""
_BY_END = (table.c.finished_at.desc(), table.c.id.desc())


def _of_last_healed(column: Any, otherwise: Any) -> Any:
    healed = select(column).where(*_ENDED, _status_text == Status.SUCCEEDED.value).order_by(*_BY_END).limit(1)
    return func.coalesce(healed.scalar_subquery(), otherwise)


_LAST_HEALED = (
    _of_last_healed(table.c.finished_at, literal_column("0")),
    _of_last_healed(table.c.id, literal_column("''")),
)
_LATEST = Prepared(
    union_all(
        *(
            select(
                select(*_SELECTED)
                .where(*_ENDED, *chosen)
                .order_by(*_BY_END)
                .limit(bindparam(most, type_=Integer))
                .subquery()
            )
            for most, chosen in {
                "most_failed": (
                    _status_text.in_(_FAILED),
                    tuple_(table.c.finished_at, table.c.id) > tuple_(*_LAST_HEALED),
                ),
                "most_healed": (table.c.target == bindparam("target"), _status_text == Status.SUCCEEDED.value),
            }.items()
        )
    )
)


def find_acting(connection: Connection, playbook: str, since: datetime, other_than: str) -> RunResult | None:
    """Return the first other run of a playbook that acted since then and has no result yet, or None."""
    values = {"playbook": playbook, "since": since, "run": other_than}
    return next(iter(_results(connection.execute(_TRIAL, values))), None)


_TRIAL = Prepared(
    select(*_SELECTED)
    .where(_PLAYBOOK, _SINCE, table.c.id != bindparam("run"), table.c.status.in_(OPEN_STATUSES))
    .order_by(table.c.first_action_at, table.c.id)
    .limit(1)
)
