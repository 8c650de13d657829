"""The rows that are compared with the audit log: runs, requests and decisions, stops, and the memory of remedies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, Table, select

from remediator.storage.schema import approvals, decisions, remedy_memory, runs, stops


@dataclass(frozen=True, slots=True)
class StateRows:
    """All rows, read at one time."""

    runs: Sequence[Row[Any]]
    approvals: Sequence[Row[Any]]
    decisions: Sequence[Row[Any]]
    stops: Sequence[Row[Any]]
    memory: Sequence[Row[Any]]


def read_state(connection: Connection) -> StateRows:
    """Read the rows."""
    return StateRows(
        _rows(connection, runs, "id", "status", "mode", "target", "plan", "plan_hash", "created_at"),
        _rows(connection, approvals, "id", "run_id", "status", "quorum", "plan_hash", "requested_at"),
        _rows(connection, decisions, "approval_id", "identity", "verb", "at", "break_glass"),
        _rows(connection, stops, "id", "scope", "name", "created_by", "created_at", "expires_at", "released_at"),
        _rows(connection, remedy_memory, "target", "kind", "name", "verdict", "at", "cleared_at"),
    )


def has_history(connection: Connection) -> bool:
    """Return whether there is a run, a request or a stop. Each of them has entries in the audit log."""
    return any(connection.execute(select(table.c.id).limit(1)).first() for table in (runs, approvals, stops))


def _rows(connection: Connection, table: Table, *names: str) -> Sequence[Row[Any]]:
    return connection.execute(select(*(table.c[name] for name in names))).all()
