"""Alert storms: many new alerts in a short time, read from the start times of episodes."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import Connection, Integer, bindparam, select

from remediator.storage.column_types import Instant
from remediator.storage.prepared import Prepared
from remediator.storage.schema import episodes as table


def last_storm_at(connection: Connection, since: datetime, alerts: int, within: timedelta) -> datetime | None:
    """Return the last instant since then by which ``alerts`` episodes had begun within ``within``; None if never.

    Only the newest episodes are read, as many as can matter: between two storms, few episodes begin. If fewer than
    ``alerts`` have begun since then, no episode is read; during a storm, two are read.
    """
    nth = _nth_newest(connection, since, alerts - 1)
    if nth is None:
        return None
    newest = _nth_newest(connection, since, 0)
    if newest is not None and newest - nth <= within:
        return newest
    most = 2 * alerts
    while True:
        began: list[datetime] = list(connection.execute(_NEWEST, {"since": since, "most": most}).scalars())
        for last, first in zip(began, began[alerts - 1 :], strict=False):
            if last - first <= within:
                return last
        if len(began) < most:
            return None
        most *= 4


def _nth_newest(connection: Connection, since: datetime, newer: int) -> datetime | None:
    found: datetime | None = connection.execute(_NTH_NEWEST, {"since": since, "newer": newer}).scalar()
    return found


_NTH_NEWEST = Prepared(
    select(table.c.started_at)
    .where(table.c.started_at >= bindparam("since", type_=Instant))
    .order_by(table.c.started_at.desc())
    .limit(1)
    .offset(bindparam("newer", type_=Integer))
)
_NEWEST = Prepared(
    select(table.c.started_at)
    .where(table.c.started_at >= bindparam("since", type_=Instant))
    .order_by(table.c.started_at.desc())
    .limit(bindparam("most", type_=Integer))
)
