"""The faults of the demonstration: one file each, and its line in :data:`FAULTS`."""

from __future__ import annotations

from typing import Protocol

from demo.faults import app_bad_code, app_bad_release, app_spike, disk_aof, disk_backups, redis_hung, redis_killed
from demo.probe import Probe


class Fault(Protocol):
    """A fault that is injected for real, and looked at independently of the remediator."""

    NAME: str
    """In the table."""
    ALERT: str
    """The alert that it has to raise."""
    TELLS: str
    """What is done to the stack, in plain words."""
    STARTED_ONCE: str | None
    """The program that healing has to start exactly once, by supervisord's own record; None if that says nothing."""

    def needs(self, probe: Probe) -> str | None:
        """Why it cannot be shown here, as a sentence's second half; None if it can."""

    def inject(self, probe: Probe) -> None:
        """Do it."""

    def healed(self, probe: Probe) -> str | None:
        """The proof that it is over, found by our own means; None while it is not."""

    # a fault whose remedy is temporary has ``over(probe)`` besides: the proof that it was put back, None until it is


def _all(*faults: Fault) -> tuple[Fault, ...]:
    """Modules are faults when they have a fault's names; here the type checker sees to it."""
    return faults


FAULTS = _all(redis_killed, redis_hung, app_bad_release, app_bad_code, app_spike, disk_backups, disk_aof)
"""In the order in which they are shown."""
