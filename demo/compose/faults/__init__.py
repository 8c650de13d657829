"""The faults of the Compose demonstration: one file each, listed in :data:`FAULTS`."""

from __future__ import annotations

from typing import Any, Protocol

from demo.compose.faults import app_crash_loop, app_errors, redis_disk_full, redis_down


class Fault(Protocol):
    """A real fault, checked independently of the remediator."""

    @property
    def ALERT(self) -> str:
        """Return the alert that the fault must raise."""

    @property
    def TELLS(self) -> str:
        """Return the sentence that describes the fault."""

    @property
    def PLAYBOOKS(self) -> tuple[str, ...]:
        """Return the playbooks, one of which must fix the fault."""

    def inject(self, stack: Any) -> None:
        """Inject the fault."""

    def healed(self, stack: Any) -> str | None:
        """Return independent proof that the fault is over, or None until then."""


FAULTS: tuple[Fault, ...] = (redis_down, app_crash_loop, app_errors, redis_disk_full)
"""Faults in the order of the demonstration."""
