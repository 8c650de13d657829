"""Send the audit log entries of runs to another system, such as a collector of traces.

An exporter is outside every run. It reads committed entries, so its failures and delays affect no run. Each entry is
sent at least once: the position is stored after an entry was sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Protocol

from remediator.audit import decode
from remediator.audit.entry import Entry
from remediator.core import progress
from remediator.errors import ClientError, ConfigurationError
from remediator.pipeline.context import PipelineContext
from remediator.runtime.health import Health
from remediator.runtime.position_lease import PositionLease
from remediator.storage.repositories import audit, key_values

POLL = 2.0
"""Seconds between two checks of the log."""
RETRY = 15.0
"""Seconds before an entry that was not taken is sent again."""
LEASE = timedelta(minutes=2)
"""Duration of the lease of the exporting replica."""
GIVE_UP = timedelta(hours=1)
"""After this time, an entry that the other system rejects is skipped, so that later entries arrive."""
_BATCH = 100
_ONE_ENTRY = 60.0
"""Seconds that one entry may take."""


class PermanentlyRefused(ClientError):
    """The other system refuses this entry, and would refuse it again."""


class RunExporter(Protocol):
    """Sends entries of the audit log to another system."""

    name: str
    """For logs, health and the stored position."""

    async def send(self, entry: Entry) -> None:
        """Send one entry, or do nothing if it is of no interest.

        Raises:
            PermanentlyRefused: it is left out.
            ClientError: it was not taken; it is sent again later.
        """
        ...


class ExportLoop:
    """Reads new entries and passes them to one exporter, in order, on one replica at a time.

    Args:
        context: the dependencies of the pipeline.
        exporter: where the entries go.
        health: records the entries that were not sent.
    """

    def __init__(self, context: PipelineContext, exporter: RunExporter, health: Health) -> None:
        self._context, self._exporter, self._health = context, exporter, health
        self._name = f"export {exporter.name}"
        self._lease = PositionLease(self._name, context.replica, LEASE)
        self._failing_since: datetime | None = None

    async def run(self) -> None:
        """Export for ever."""
        while True:
            progress.report(LEASE.total_seconds())
            if not await self.export_new():
                await self._context.clock.sleep(POLL if self._failing_since is None else RETRY)

    async def export_new(self) -> bool:
        """Send the next entries. Return whether there may be more to send at once."""
        head, stored = await self._context.store.read(
            lambda connection: (audit.get_head(connection).seq, key_values.get(connection, self._name))
        )
        if stored is not None and stored.value["after"] >= head:
            return False
        after = await self._context.store.write(
            # entries from before the first start are not sent
            lambda tx: self._lease.claim(tx, first=audit.get_head(tx.connection).seq)
        )
        if after is None:
            return False
        entries = await self._context.store.read(
            lambda connection: [decode(item.canonical) for item in audit.iterate(connection, after, _BATCH)]
        )
        sent = await self._send(entries)
        if sent is not None and sent > after:
            await self._context.store.write(lambda tx: self._lease.renew(tx, sent))
        return bool(entries) and sent == entries[-1].seq and len(entries) == _BATCH

    async def _send(self, entries: Sequence[Entry]) -> int | None:
        """Send entries until an entry fails. Return the number of the last entry that is done."""
        done: int | None = None
        until = asyncio.get_running_loop().time() + LEASE.total_seconds() / 2
        for entry in entries:
            if asyncio.get_running_loop().time() > until:
                break  # the rest of the lease is reserved for the current entry
            try:
                async with asyncio.timeout(_ONE_ENTRY):
                    await self._exporter.send(entry)
            except PermanentlyRefused as error:
                self._health.lost(self._name, error)
            except (ClientError, ConfigurationError, TimeoutError, OSError, ValueError) as error:
                if not self._give_up(error or f"no answer within {_ONE_ENTRY:g} s"):
                    break
            else:
                if self._failing_since is not None:
                    self._failing_since = None
                    self._health.warn(self._name, "")
                self._health.works(self._name)
            done = entry.seq
        return done

    def _give_up(self, error: object) -> bool:
        """Note a failure. Return whether the entry has failed for too long."""
        now = self._context.clock.now()
        self._failing_since = self._failing_since or now
        self._health.warn(self._name, str(error) or type(error).__name__)
        if now - self._failing_since < GIVE_UP:
            return False
        self._health.lost(self._name, error)
        return True
