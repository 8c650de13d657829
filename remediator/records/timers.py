"""Durable timers: what has to be looked at later, whatever dies until then."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, insert, select, update

from remediator.stores import Tx
from remediator.stores.schema import timers as table

STILL_FIRING = "still_firing"
"""Kind: whether the alerts of a run that succeeded are over by then."""


@dataclass(frozen=True, slots=True)
class Timer:
    """One thing to look at."""

    id: str
    kind: str
    run_id: str | None
    target: str | None
    content: Mapping[str, Any]
    due_at: datetime
    done_at: datetime | None


def put(tx: Tx, timer: Timer) -> None:
    """Set one."""
    tx.connection.execute(insert(table), {name: getattr(timer, name) for name in Timer.__dataclass_fields__})


def due(connection: Connection, kind: str, now: datetime, limit: int = 100) -> list[Timer]:
    """Those whose time has come, the longest overdue first."""
    rows = connection.execute(
        select(table)
        .where(table.c.done_at.is_(None), table.c.due_at <= now, table.c.kind == kind)
        .order_by(table.c.due_at)
        .limit(limit)
    )
    return [Timer(**row._mapping) for row in rows]


def done(tx: Tx, timer_id: str) -> bool:
    """It was looked at; False if somebody else did."""
    return bool(
        tx.connection.execute(
            update(table).where(table.c.id == timer_id, table.c.done_at.is_(None)).values(done_at=tx.now)
        ).rowcount
    )
