"""Alert storms: many new alerts in a short time, read from the start times of episodes."""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import cache

from sqlalchemy import BigInteger, Connection, Select, bindparam, func, select, type_coerce

from remediator.core.clock import from_micros, to_micros
from remediator.storage.schema import episodes as table


def last_storm_at(connection: Connection, since: datetime, alerts: int, within: timedelta) -> datetime | None:
    """Return the last instant since then by which ``alerts`` episodes had begun within ``within``; None if never."""
    given = {"since": to_micros(since), "length": within // timedelta(microseconds=1)}
    found = connection.scalar(_last_storm(alerts), given)
    return None if found is None else from_micros(found)


@cache
def _last_storm(alerts: int) -> Select[int]:
    """Build the statement once."""
    began = type_coerce(table.c.started_at, BigInteger)
    since, length = bindparam("since", type_=BigInteger), bindparam("length", type_=BigInteger)
    earlier = func.lag(began, alerts - 1).over(order_by=(began, table.c.id))
    each = select(began.label("began"), earlier.label("earlier")).where(began >= since).subquery()
    return select(func.max(each.c.began)).where(each.c.earlier.is_not(None), each.c.began - each.c.earlier <= length)
