"""The faults of the Compose demonstration: one file each, and its line in :data:`FAULTS`."""

from __future__ import annotations

from typing import Any, Protocol

from demo.compose.faults import app_crash_loop, app_errors, redis_disk_full, redis_down


class Fault(Protocol):
    """A fault that is injected for real, and looked at independently of the remediator. ``stack`` is the demo's."""

    @property
    def ALERT(self) -> str:
        """The alert that it has to raise."""

    @property
    def TELLS(self) -> str:
        """What is done, in plain words."""

    @property
    def PLAYBOOKS(self) -> tuple[str, ...]:
        """The playbooks one of which has to heal it."""

    def inject(self, stack: Any) -> None:
        """Do it."""

    def healed(self, stack: Any) -> str | None:
        """The proof that it is over, found by our own means; None while it is not."""


FAULTS: tuple[Fault, ...] = (redis_down, app_crash_loop, app_errors, redis_disk_full)
"""In the order in which they are shown."""
