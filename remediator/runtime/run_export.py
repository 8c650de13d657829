"""Send what the audit log says about runs to another system, such as a collector of traces.

An exporter is outside of every run. It reads committed entries, so its failure, its slowness and its absence change no
run. Each entry is sent at least once: the position is stored after an entry was sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Protocol

from sqlalchemy import Connection

from remediator.audit import decode
from remediator.audit.entry import Entry
from remediator.core import progress
from remediator.core.clock import rfc3339
from remediator.errors import ClientError, ConfigurationError
from remediator.pipeline.context import PipelineContext
from remediator.runtime.health import Health
from remediator.storage import Tx
from remediator.storage.repositories import audit, key_values

POLL = 2.0
"""Seconds between two looks at the log."""
RETRY = 15.0
"""Seconds before an entry that was not taken is sent again."""
LEASE = timedelta(minutes=2)
"""How long one replica is the one that exports."""
GIVE_UP = timedelta(hours=1)
"""After this time, an entry that the other system does not take is left out, so that later ones arrive."""
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
        health: notes what was not sent.
    """

    def __init__(self, context: PipelineContext, exporter: RunExporter, health: Health) -> None:
        self._context, self._exporter, self._health = context, exporter, health
        self._failing_since: datetime | None = None

    async def run(self) -> None:
        """Export for ever."""
        while True:
            progress.report(LEASE.total_seconds())
            if not await self.export_new():
                await self._context.clock.sleep(POLL if self._failing_since is None else RETRY)

    async def export_new(self) -> bool:
        """Send the next entries. Return whether there may be more to send at once."""
        head, stored = await self._context.store.read(self._state)
        if stored is not None and stored["after"] >= head:
            return False
        after = await self._context.store.write(self._claim)
        if after is None:
            return False
        entries = await self._context.store.read(
            lambda connection: [decode(item.canonical) for item in audit.iterate(connection, after, _BATCH)]
        )
        sent = await self._send(entries)
        if sent is not None and sent > after:
            await self._context.store.write(lambda tx: self._renew(tx, sent))
        return bool(entries) and sent == entries[-1].seq and len(entries) == _BATCH

    async def _send(self, entries: Sequence[Entry]) -> int | None:
        """Send entries until one fails. Return the number of the last one that is done."""
        done: int | None = None
        until = asyncio.get_running_loop().time() + LEASE.total_seconds() / 2
        for entry in entries:
            if asyncio.get_running_loop().time() > until:
                break  # the rest of the lease is for the entry that is being sent
            try:
                async with asyncio.timeout(_ONE_ENTRY):
                    await self._exporter.send(entry)
            except PermanentlyRefused as error:
                self._health.lost(f"export {self._exporter.name}", error)
            except (ClientError, ConfigurationError, TimeoutError, OSError, ValueError) as error:
                if not self._give_up(error or f"no answer within {_ONE_ENTRY:g} s"):
                    break
            else:
                if self._failing_since is not None:
                    self._failing_since = None
                    self._health.warn(f"export {self._exporter.name}", "")
                self._health.works(f"export {self._exporter.name}")
            done = entry.seq
        return done

    def _give_up(self, error: object) -> bool:
        """Note a failure. Return whether the entry has failed for too long."""
        now = self._context.clock.now()
        self._failing_since = self._failing_since or now
        self._health.warn(f"export {self._exporter.name}", str(error) or type(error).__name__)
        if now - self._failing_since < GIVE_UP:
            return False
        self._health.lost(f"export {self._exporter.name}", error)
        return True

    @property
    def _key(self) -> str:
        return f"export {self._exporter.name}"

    def _state(self, connection: Connection) -> tuple[int, Mapping[str, Any] | None]:
        stored = key_values.get(connection, self._key)
        return audit.get_head(connection).seq, None if stored is None else stored.value

    def _claim(self, tx: Tx) -> int | None:
        """Take or renew the lease; return the position, or None if another replica holds the lease."""
        head, held = self._state(tx.connection)
        mine = held is None or held["replica"] == self._context.replica
        if held is not None and not mine and datetime.fromisoformat(held["until"]) > tx.now:
            return None
        after = head if held is None else int(held["after"])  # what was before the first start is not sent
        self._renew(tx, after)
        return after

    def _renew(self, tx: Tx, after: int) -> None:
        value = {"replica": self._context.replica, "until": rfc3339(tx.now + LEASE), "after": after}
        key_values.set(tx, self._key, value)
