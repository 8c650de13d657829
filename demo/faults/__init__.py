"""The faults of the demonstration: one file each, listed in :data:`FAULTS`."""

from __future__ import annotations

from typing import Protocol

from demo.faults import app_bad_code, app_bad_release, app_spike, disk_aof, disk_backups, redis_hung, redis_killed
from demo.probe import Probe


class Fault(Protocol):
    """A real fault, checked independently of the remediator."""

    NAME: str
    """Name in the table."""
    ALERT: str
    """Alert that the fault must raise."""
    TELLS: str
    """Sentence that describes the fault."""
    STARTED_ONCE: str | None
    """Program that the remedy must start exactly once, by the log of supervisord; None if that does not apply."""

    def needs(self, probe: Probe) -> str | None:
        """Return why the fault cannot be shown here, as the second half of a sentence, or None if it can."""

    def inject(self, probe: Probe) -> None:
        """Inject the fault."""

    def healed(self, probe: Probe) -> str | None:
        """Return independent proof that the fault is over, or None until then."""

    # a fault with a temporary remedy also has ``over(probe)``: proof that the remedy was undone, or None until then


FAULTS: tuple[Fault, ...] = (redis_killed, redis_hung, app_bad_release, app_bad_code, app_spike, disk_backups, disk_aof)
"""Faults in the order of the demonstration."""
