"""The position in a stream that one replica at a time reads, such as the audit log or the presses in a chat."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from remediator.core.clock import rfc3339
from remediator.storage import Tx
from remediator.storage.repositories import key_values


@dataclass(frozen=True, slots=True)
class PositionLease:
    """A lease in the store, together with the position. Another replica goes on from there when the lease ends.

    Args:
        name: of the stored value.
        replica: who claims the lease.
        lasts: how long the lease holds without a renewal.
    """

    name: str
    replica: str
    lasts: timedelta

    def claim(self, tx: Tx, first: int) -> int | None:
        """Take or renew the lease. Return the position, or None if another replica holds the lease.

        Args:
            tx: the transaction.
            first: the position to begin with, if none is stored.
        """
        stored = key_values.get(tx.connection, self.name)
        held = {} if stored is None else stored.value
        if held and held["replica"] != self.replica and datetime.fromisoformat(held["until"]) > tx.now:
            return None
        after = int(held.get("after", first))
        self.renew(tx, after)
        return after

    def renew(self, tx: Tx, after: int) -> None:
        """Renew the lease, and store the position."""
        until = rfc3339(tx.now + self.lasts)
        key_values.set(tx, self.name, {"replica": self.replica, "until": until, "after": after})
