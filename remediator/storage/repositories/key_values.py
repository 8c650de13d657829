"""Small durable state by name: when the Watchdog was last heard, breakers, demotions."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from importlib import import_module
from typing import Any

from sqlalchemy import Connection, Executable, bindparam, select

from remediator.core.clock import format_duration
from remediator.storage import Tx
from remediator.storage.schema import key_values as table

WATCHDOG = "watchdog"
"""Name of the fact that says when the always-firing alert was last heard, and whether it fired then."""
RECEIVERS = "receivers"
"""Name of the fact that lists the receivers that have posted here."""
RECONCILED = "reconciled"
"""Name of the fact that says when Alertmanager was last compared with, and for how many looks which alert was gone."""


@dataclass(frozen=True, slots=True)
class StoredValue:
    """A value, and when it was set."""

    value: Any
    at: datetime


def get(connection: Connection, name: str) -> StoredValue | None:
    """The fact of this name."""
    row = connection.execute(_GET, {"name": name}).first()
    return None if row is None else StoredValue(row.value, row.at)


_GET = select(table.c.value, table.c.at).where(table.c.name == bindparam("name"))


def watchdog_problem(connection: Connection, now: datetime, within: timedelta | None) -> str:
    """Why it is not known whether alerts arrive; empty if the Watchdog was heard in time, firing, or if nobody watches
    it (None)."""
    if within is None:
        return ""
    heard = get(connection, WATCHDOG)
    if heard is None:
        return "the Watchdog was never heard: whether alerts arrive at all is not known"
    if now - heard.at > within:
        age = format_duration(timedelta(seconds=int((now - heard.at).total_seconds())))
        return f"the Watchdog was heard {age} ago, not within {format_duration(within)}: alerts may not arrive"
    if not heard.value.get("firing", True):
        return "the Watchdog stopped firing: rules may be broken, and alerts may not arrive"
    return ""


def with_prefix(connection: Connection, prefix: str) -> dict[str, StoredValue]:
    """All whose name begins so."""
    rows = connection.execute(select(table).where(table.c.name.startswith(prefix, autoescape=True)))
    return {row.name: StoredValue(row.value, row.at) for row in rows}


def set(tx: Tx, name: str, value: Any) -> None:
    """Set it, whatever it was, and whoever else sets it first at the same time."""
    tx.connection.execute(_put(tx.connection.dialect.name), {"name": name, "value": value, "at": tx.now})


@cache
def _put(dialect: str) -> Executable:
    dialects = import_module(f"sqlalchemy.dialects.{dialect}")  # the other one is not worth its memory
    given = dialects.insert(table)
    fresh = {name: given.excluded[name] for name in ("value", "at")}
    upsert: Executable = given.on_conflict_do_update(index_elements=[table.c.name], set_=fresh)
    return upsert


def delete(tx: Tx, name: str) -> None:
    """Forget it."""
    tx.connection.execute(table.delete().where(table.c.name == name))
