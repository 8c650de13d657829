"""What the tools need from whatever keeps the log."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Protocol

from remediator.audit.chain import Head
from remediator.audit.entry import SealedEntry


class AuditReader(Protocol):
    """A log that can be read. A store implements it, and so does an export."""

    def entries(
        self,
        after_seq: int = 0,
        limit: int | None = None,
        run: str | None = None,
        kind: str | None = None,
        since: datetime | None = None,
    ) -> Iterable[SealedEntry]:
        """Entries in the order of their numbers, of those that are numbered above ``after_seq`` and match."""
        ...

    def head(self) -> Head:
        """Where the log says that it ends."""
        ...
