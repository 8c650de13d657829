"""Log and audit refused notifications, at a limited rate: a sender must not be able to fill the log or the disk."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import structlog

from remediator.audit import Draft, Kind
from remediator.errors import PayloadError, StoreError
from remediator.storage import Store

INTERVAL = 60.0
"""Seconds in which a refusal of the same sender and status is recorded once."""
MAX_RECORDS = 20
"""Maximum number of records in ``INTERVAL``, regardless of the number of senders."""
log: Any = structlog.get_logger("remediator.web.webhook")


@dataclass(slots=True)
class Refusals:
    """Records refused notifications.

    Args:
        store: has the audit log.
        actor: this process.
        now: returns seconds that never go back.
    """

    store: Store
    actor: str
    now: Callable[[], float] = time.monotonic
    _recorded: dict[tuple[str, int], float] = field(default_factory=dict)
    """The last recorded time of each sender and status in the current interval."""
    _unrecorded: int = 0

    async def record(self, sender: str, error: PayloadError) -> None:
        """Write the log line and the audit entry of a refusal, unless the rate is exceeded.

        Call it after the answer was sent. A store that cannot commit costs the audit entry, not the log line.
        """
        now = self.now()
        self._recorded = {key: at for key, at in self._recorded.items() if now - at < INTERVAL}
        key = (sender, error.status)
        if key in self._recorded or len(self._recorded) >= MAX_RECORDS:
            self._unrecorded += 1
            return
        self._recorded[key] = now
        data = {"sender": sender, "status": error.status, "message": str(error), "unrecorded": self._unrecorded}
        self._unrecorded = 0
        log.warning("notification refused", **data)
        draft = Draft(kind=Kind.NOTIFICATION_REFUSED, actor=self.actor, reason=str(error.status), data=data)
        try:
            await self.store.write(lambda tx: tx.append_audit(draft))
        except StoreError as failure:
            log.warning("refused notification not audited", sender=sender, error=str(failure))
