"""Advisory locks for work that only one replica may do at a time, because it counts what the other replicas write."""

from __future__ import annotations

from sqlalchemy import BigInteger, Connection, bindparam, func, select

from remediator.errors import RemediatorError
from remediator.storage.prepared import Prepared

_KEY = bindparam("key", type_=BigInteger)
_TRY_LOCK = Prepared(select(func.pg_try_advisory_xact_lock(_KEY)))
_LOCK = Prepared(select(func.pg_advisory_xact_lock(_KEY)))

LOCK_INTENT = 7_302_517_002
"""Evaluate the guards and write the intent of an action. Each lock has its own arbitrary constant."""
LOCK_MONITORS = 7_302_517_003
"""Compare the monitored state with the last reported state."""
LOCK_INGEST = 7_302_517_004
"""Process notifications, because their order matters."""
LOCK_RECONCILE = 7_302_517_005
"""Compare the episodes in the store with the alerts in Alertmanager."""
LOCK_PRUNE = 7_302_517_006
"""Delete history that is older than the retention."""


class LockUnavailable(RemediatorError):
    """Another replica holds the lock; retry later."""


def try_lock(connection: Connection, key: int) -> None:
    """Take an advisory lock until the end of this transaction.

    On SQLite this does nothing: it has a single writer, which is this transaction.

    Raises:
        LockUnavailable: another replica holds it. Waiting could deadlock, because that replica may in turn wait for a
            row that this transaction has locked.
    """
    if connection.dialect.name != "postgresql":
        return
    if not connection.execute(_TRY_LOCK, {"key": key}).scalar():
        raise LockUnavailable("another replica holds the lock")


def lock(connection: Connection, key: int) -> None:
    """Take an advisory lock until the end of this transaction, and wait for it; on SQLite, see :func:`try_lock`.

    Only for a transaction that has locked no row yet.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(_LOCK, {"key": key})
