"""Small values by name, without a separate table, for example the last Watchdog notification."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, bindparam, select

from remediator.core.clock import format_duration
from remediator.storage import Tx
from remediator.storage.prepared import Prepared, insert_or_update
from remediator.storage.schema import key_values as table

WATCHDOG = "watchdog"
"""Name of the value with the last Watchdog notification: its time, and whether it was firing."""
RECEIVERS = "receivers:"
"""Prefix of the names of the values that list the receivers of each source that sent notifications here."""
RECONCILED = "reconciled:"
"""Prefix of the values about the last reconciliation of each source: its time, and the absences of each alert.
"""

REPLACED = "replaced"
"""Name of the value with the time at which this database replaced another database, which may have had more commits."""


@dataclass(frozen=True, slots=True)
class StoredValue:
    """A value and the time when it was set."""

    value: Any
    at: datetime


def get(connection: Connection, name: str, *, lock: bool = False) -> StoredValue | None:
    """Return the value of this name, optionally with its row locked; None if it is not set."""
    row = connection.execute(_GET_LOCKED if lock else _GET, {"name": name}).first()
    return None if row is None else StoredValue(row.value, row.at)


_VALUE = select(table.c.value, table.c.at).where(table.c.name == bindparam("name"))
_GET, _GET_LOCKED = Prepared(_VALUE), Prepared(_VALUE.with_for_update())


def watchdog_problem(connection: Connection, now: datetime, within: timedelta | None) -> str:
    """Return why it is unknown whether alerts arrive.

    Returns:
        an empty text if the Watchdog was received in time and fires, or if it is not monitored (``within`` is None).
    """
    if within is None:
        return ""
    heard = get(connection, WATCHDOG)
    if heard is None:
        return "the Watchdog was never received: it is unknown whether alerts arrive"
    if now - heard.at > within:
        age = format_duration(timedelta(seconds=int((now - heard.at).total_seconds())))
        return f"the Watchdog was last received {age} ago, not within {format_duration(within)}: alerts may not arrive"
    if not heard.value.get("firing", True):
        return "the Watchdog does not fire: rules may be broken, and alerts may not arrive"
    return ""


def with_prefix(connection: Connection, prefix: str) -> dict[str, StoredValue]:
    """Return all values with this prefix of their name, by name."""
    rows = connection.execute(select(table).where(table.c.name.startswith(prefix, autoescape=True)))
    return {row.name: StoredValue(row.value, row.at) for row in rows}


def set(tx: Tx, name: str, value: Any) -> None:
    """Set a value; if several transactions set it at the same time, the last one wins."""
    statement = insert_or_update(tx.connection.dialect.name, table, ("name",), ("value", "at"))
    tx.connection.execute(statement, {"name": name, "value": value, "at": tx.now})


def delete(tx: Tx, name: str) -> None:
    """Delete a value."""
    tx.connection.execute(table.delete().where(table.c.name == name))
