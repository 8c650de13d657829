"""Turns: work that several replicas must not do at the same time, because each counts what the others write."""

from __future__ import annotations

from sqlalchemy import Connection

from remediator.errors import RemediatorError

LOCK_INTENT = 7_302_517_002
"""The turn to judge and write an action's intent. Any constant, one for each kind of turn."""
LOCK_RECONCILE = 7_302_517_005
"""The turn to compare our episodes with what Alertmanager holds."""
LOCK_PRUNE = 7_302_517_006
"""The turn to forget what is over for long."""
LOCK_INGEST = 7_302_517_004
"""The turn to take notifications in, since their order matters."""
LOCK_MONITORS = 7_302_517_003
"""The turn to compare the state of the world with what people were told of it."""


class LockUnavailable(RemediatorError):
    """Another replica has the turn; try again in a moment."""


def try_lock(connection: Connection, turn: int) -> None:
    """Have a turn until the end of this transaction. SQLite has one writer, so there it is had already.

    Raises:
        Taken: another replica has it. Not waited for: it may in turn wait for a row that this transaction holds.
    """
    if connection.dialect.name != "postgresql":
        return
    if not connection.exec_driver_sql(f"SELECT pg_try_advisory_xact_lock({turn})").scalar():
        raise LockUnavailable("another replica has the turn")
