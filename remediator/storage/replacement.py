"""A database that replaced another database: a standby after a failover, or a restored backup.

The other database may have had more commits. In this case, intents of completed actions are missing, and processes
remember commits that this database does not have. So the time of the replacement is recorded, and all earlier claims
are void. A run with an earlier alert or plan observes its target before it acts (promise 3).
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection

from remediator.audit import Draft, Kind
from remediator.storage import Replacement, Tx
from remediator.storage.repositories import key_values, run_claims

_INCARNATION = "incarnation"


@dataclass(frozen=True, slots=True)
class Incarnation:
    """One server in one life."""

    server: str
    """Changes when a standby is promoted, or the server is restored to a point in time."""
    synchronous: bool
    """Whether its commits wait for a standby, so that a failover loses no commit."""


def record(tx: Tx, reason: str, actor: str, *, lossless: bool = False) -> None:
    """Record that this database has just replaced another database.

    Args:
        tx: the transaction.
        reason: the cause of the replacement, for the audit log.
        actor: the person or replica that did or detected it.
        lossless: the other database had no more commits.
    """
    key_values.set(tx, key_values.REPLACED, {"reason": reason, "lossless": lossless})
    if not lossless:
        run_claims.void_claims(tx)
    tx.append_audit(Draft(kind=Kind.STORE_REPLACED, actor=actor, data={"reason": reason, "lossless": lossless}))


def record_if_new(tx: Tx, found: Incarnation, remembered: Incarnation | None = None) -> None:
    """Compare the server with the last server of the database.

    All replicas notice a failover at the same time. The first replica records it, while the other replicas wait for the
    row lock.

    Args:
        tx: the transaction.
        found: the server that is used now.
        remembered: the server that this process used before. It counts if the database does not know its last server,
            because the failover lost that commit too.
    """
    known = key_values.get(tx.connection, _INCARNATION, lock=True)
    before = remembered if known is None else Incarnation(*known.value)
    if known is None or before != found:
        key_values.set(tx, _INCARNATION, [found.server, found.synchronous])
    if before is not None and before.server != found.server:
        reason = f"the server changed from {before.server} to {found.server} (system/timeline)"
        record(tx, reason, "remediator", lossless=before.synchronous)


def last(connection: Connection) -> Replacement | None:
    """Return the last time that this database took the place of another one; None if it never did."""
    found = key_values.get(connection, key_values.REPLACED)
    return None if found is None else Replacement(found.at, found.value["lossless"])
