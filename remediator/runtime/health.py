"""The health of this process: loops that stand still, an inbox that does not move, observers that lose data.

Two states are kept apart. *Unable to take in*: a notification would be acknowledged and not processed, so the webhook
and ``/readyz`` answer 503. *Degraded*: something does not work, and runs continue.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import structlog
from sqlalchemy import Connection

from remediator.core import progress
from remediator.pipeline.context import PipelineContext
from remediator.storage import Tx
from remediator.storage.repositories import inbox, replicas

log: Any = structlog.get_logger("remediator.runtime.health")

STALL = 60.0
"""Seconds without progress after which a loop, or the inbox, is reported."""
POLL = 5.0
"""Seconds between two checks of the inbox."""
RISK_POLL = 60.0
"""Seconds between two questions about the standbys of the database."""
INSTANCE = secrets.token_hex(8)
"""Identifies this process among those that may use the same replica ID by mistake."""
_SAME_ID = "another process started with the same replica ID; give each its own 'replica' in the settings"
RECENT = 300.0
"""Seconds for which a loss is shown after the observer works again."""


@dataclass(slots=True)
class Loss:
    """The losses of an observer since the start."""

    count: int = 0
    error: str = ""
    """The last error; empty if the observer works now."""
    at: float = 0.0
    """Monotonic time of the last loss."""


@dataclass(slots=True)
class _Loop:
    due: float
    """Monotonic time at which the next progress is expected at the latest."""
    error: str = ""
    """The error of the last turn; empty if it succeeded."""


@dataclass(slots=True)
class Health:
    """The current problems of this process.

    Args:
        monotonic: the source of time, in seconds.
        stall: seconds without progress after which a loop or the inbox is reported.
    """

    monotonic: Callable[[], float] = time.monotonic
    stall: float = STALL
    losses: dict[str, Loss] = field(default_factory=dict)
    """The losses of each observer, for example ``log``, ``events`` or ``channel ops``."""
    counters: dict[str, Callable[[], tuple[int, str]]] = field(default_factory=dict)
    """Observers that count for themselves: their losses since the start, and why the last one happened."""
    watches: dict[str, Callable[[], str]] = field(default_factory=dict)
    """Parts of the environment that are examined regularly. Each function returns its problem, or an empty text."""
    _loops: dict[str, _Loop] = field(default_factory=dict)
    _oldest: tuple[int, int] | None = None
    _moved_at: float = 0.0
    _warnings: dict[str, str] = field(default_factory=dict)

    def lost(self, observer: str, error: object, count: int = 1) -> None:
        """Count the items that an observer could not write. The first failure is logged."""
        loss = self.losses.setdefault(observer, Loss())
        first, loss.error = not loss.error, str(error) or type(error).__name__
        loss.count, loss.at = loss.count + count, self.monotonic()
        if first:
            log.warning("observer failed, runs continue", observer=observer, message=loss.error)

    def works(self, observer: str) -> None:
        """Note that an observer works. If it had failed before, log how much was lost."""
        loss = self.losses.setdefault(observer, Loss())
        if loss.error:
            loss.error = ""
            log.warning("observer works again", observer=observer, lost=loss.count)

    def warn(self, what: str, text: str) -> None:
        """Set the problem of a part of the environment; an empty text: no problem. A change is logged."""
        before = self._warnings.pop(what, "")
        if text:
            self._warnings[what] = text
        if text and text != before:
            log.warning("degraded", what=what, reason=text)
        elif before and not text:
            log.info("no longer degraded", what=what)

    def watch_loop(self, name: str) -> None:
        """Expect that the current task reports progress."""

        def progressed(pause: float) -> None:
            self._loops[name] = _Loop(self.monotonic() + pause + self.stall)

        progressed(0.0)
        progress.listen(progressed)

    def loop_failed(self, name: str, error: object) -> None:
        """Note that a turn of a loop failed; the loop starts again."""
        loop = self._loops.setdefault(name, _Loop(self.monotonic() + self.stall))
        loop.error = str(error) or type(error).__name__

    def inbox_is(self, oldest: tuple[int, int] | None) -> None:
        """Note the oldest notification that is not processed, or None, and how much of it is."""
        if oldest is None or oldest != self._oldest:
            self._moved_at = self.monotonic()
        self._oldest = oldest

    def intake_problem(self) -> str:
        """Return why a notification would not be processed; an empty text if it would."""
        ingest = self._loops.get("ingest")
        stuck = self._oldest is not None and self.monotonic() - self._moved_at > self.stall
        if stuck or (ingest is not None and self.monotonic() > ingest.due):
            return f"received notifications have not been processed for more than {self.stall:g} s; see the log"
        return ""

    def parts(self) -> set[str]:
        """Return the names of all known parts that :meth:`problems` may report."""
        loops = {f"loop {name}" for name in self._loops}
        return {"intake", "replica", "database", *loops, *self.watches, *self.counters, *self.losses}

    def problems(self) -> Mapping[str, str]:
        """Return all problems, by their subject."""
        now = self.monotonic()
        found = dict(self._warnings)
        if intake := self.intake_problem():
            found["intake"] = intake
        for name, loop in self._loops.items():
            if now > loop.due:
                found[f"loop {name}"] = f"no progress{f': {loop.error}' if loop.error else ''}"
            elif loop.error:
                found[f"loop {name}"] = f"failed, starts again: {loop.error}"
        for name, counter in self.counters.items():
            count, error = counter()
            seen = self.losses.setdefault(name, Loss())
            if count > seen.count:
                seen.count, seen.at = count, now
            seen.error = error
        for name, loss in self.losses.items():
            if loss.error or (loss.count and now - loss.at < RECENT):
                found[name] = f"{loss.count} lost since the start: {loss.error or 'works again'}"
        return found


async def run_health_loop(context: PipelineContext, health: Health) -> None:
    """Check the inbox, and record the health of this replica for ``status`` and the console."""
    recorded: Mapping[str, str] | None = None
    risk_at = -RISK_POLL

    def look(connection: Connection) -> tuple[tuple[int, int] | None, str | None]:
        return inbox.oldest_pending(connection), replicas.get_instance(connection, context.replica)

    while True:
        oldest, instance = await context.store.read(look)
        health.inbox_is(oldest)
        health.warn("replica", _SAME_ID if instance not in (None, INSTANCE) else "")
        for what, problem in health.watches.items():
            health.warn(what, problem())
        if health.monotonic() - risk_at >= RISK_POLL:
            risk_at = health.monotonic()
            health.warn("database", await context.store.failover_risk())
        problems = dict(health.problems())
        if problems != recorded:

            def record(tx: Tx, problems: dict[str, str] = problems) -> None:
                replicas.set_problems(tx, context.replica, tx.redact(problems))

            await context.store.write(record)
            recorded = problems
        progress.report(POLL)
        await context.clock.sleep(POLL)
