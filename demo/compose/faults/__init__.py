"""The faults of the Compose demonstration: one file each, listed in :data:`FAULTS`."""

from __future__ import annotations

from typing import Any, Protocol

from demo.compose.faults import app_crash_loop, app_errors, redis_disk_full, redis_down


class Fault(Protocol):
    """A real fault, checked independently of the remediator."""

    @property
    def ALERT(self) -> str:
        """Alert that it must raise."""

    @property
    def TELLS(self) -> str:
        """Sentence that describes the fault."""

    @property
    def PLAYBOOKS(self) -> tuple[str, ...]:
        """Playbooks, one of which must heal it."""

    def inject(self, stack: Any) -> None:
        """Inject the fault."""

    def healed(self, stack: Any) -> str | None:
        """Return independent proof that it is over; None while it is not."""


FAULTS: tuple[Fault, ...] = (redis_down, app_crash_loop, app_errors, redis_disk_full)
"""Faults in the order of the demonstration."""
