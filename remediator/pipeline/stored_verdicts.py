"""Verdicts of guards from one snapshot of the store, and how long they are valid."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from remediator.extensions.guards.base import Guard, Verdict

_STORED_IS_FRESH = timedelta(seconds=1)
"""Maximum age of a plan's answer from the store for reuse by its first step, if the store did not change.
"""


@dataclass(frozen=True, slots=True)
class StoredVerdicts:
    """The answers of the guards from one snapshot of the store."""

    at: datetime
    version: int | None
    """The store's version before the snapshot."""
    verdicts: Mapping[str, Verdict]
    """The verdicts, by the name of the guard."""

    def of(self, guard: Guard, now: datetime, version: int | None) -> Verdict | None:
        """Return the verdict of a guard if it must still be the same; None if the guard must be evaluated again."""
        if version is None or version != self.version or not timedelta(0) <= now - self.at <= _STORED_IS_FRESH:
            return None
        return self.verdicts.get(guard.name) if guard.same_for_all_steps else None
