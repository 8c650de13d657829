"""What guards said from one snapshot of the store, and how long that holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from remediator.extensions.guards.base import Guard, Verdict

_STORED_IS_FRESH = timedelta(seconds=1)
"""How long what the store said about the plan holds for its first step, if nothing in the store changed."""


@dataclass(frozen=True, slots=True)
class StoredVerdicts:
    """What the guards said from one snapshot of the store."""

    at: datetime
    version: int | None
    """The store's version before the snapshot."""
    verdicts: Mapping[str, Verdict]
    """By guard."""

    def of(self, guard: Guard, now: datetime, version: int | None) -> Verdict | None:
        """Return the verdict of a guard if it must still be the same; None if it has to be asked again."""
        if version is None or version != self.version or not timedelta(0) <= now - self.at <= _STORED_IS_FRESH:
            return None
        return self.verdicts.get(guard.name) if guard.same_for_all_steps else None
