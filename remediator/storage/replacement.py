"""A database that took the place of another one: a standby after a failover, or a restored backup.

The other database may have had more commits. Then intents of actions are missing here, although the actions were done.
So the time of the replacement is recorded, and a run from before it observes its target before it acts (promise 3).
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection

from remediator.audit import Draft, Kind
from remediator.storage import Tx
from remediator.storage.repositories import key_values

_INCARNATION = "incarnation"


def record(tx: Tx, reason: str, actor: str) -> None:
    """Record that this database took the place of another one just now.

    Args:
        tx: the transaction.
        reason: how it came about, for the audit log.
        actor: who noticed or did it.
    """
    key_values.set(tx, key_values.REPLACED, {"reason": reason})
    tx.append_audit(Draft(kind=Kind.STORE_REPLACED, actor=actor, data={"reason": reason}))


def record_if_new(tx: Tx, incarnation: str, actor: str) -> None:
    """Compare the incarnation of the server with the one that the database was last used with.

    Args:
        tx: the transaction.
        incarnation: changes when a standby is promoted, or the server is restored to a point in time.
        actor: who notices.
    """
    known = key_values.get(tx.connection, _INCARNATION)
    if known is not None and known.value == incarnation:
        return
    key_values.set(tx, _INCARNATION, incarnation)
    if known is not None:
        record(tx, f"the server changed from {known.value} to {incarnation} (system/timeline)", actor)


def last(connection: Connection) -> datetime | None:
    """Return when this database last took the place of another one; None if it never did."""
    found = key_values.get(connection, key_values.REPLACED)
    return None if found is None else found.at
