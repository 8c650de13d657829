"""An event loop without real time and without fixed order: it jumps to the next timer, and picks among what is ready.

Every callback belongs to a host (a process that can be paused or killed) or to the world. What belongs to a paused host
waits until it goes on; what belongs to a dead one never runs. So a crash can happen between any two steps of any task,
and no ``finally`` runs then: exactly what kill -9 does.
"""

from __future__ import annotations

import asyncio
import heapq
import random
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any


class Host:
    """A process: its name, and whether it lives, and runs."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.alive = True
        self.paused = False
        self.held: list[asyncio.Handle] = []
        self.offset = 0.0
        """Seconds by which its clock is wrong."""


HOST: ContextVar[Host | None] = ContextVar("host", default=None)


class Deadlock(Exception):
    """Nothing is ready and no timer is set, or nobody ever waits: the schedule would never end."""


MOST_STEPS = 60_000
"""A schedule takes a few thousand steps; one of so many goes round in circles."""


class VirtualLoop(asyncio.BaseEventLoop):
    """The loop.

    Args:
        chance: decides the order; the same seed gives the same order.
        most_steps: one that takes more goes round in circles.
    """

    _ready: Any
    _scheduled: list[asyncio.TimerHandle]

    def __init__(self, chance: random.Random, most_steps: int = MOST_STEPS) -> None:
        super().__init__()
        self._ready = []
        self._chance = chance
        self._most_steps = most_steps
        self._now = 0.0
        self.steps = 0
        self.before_step: Callable[[Host], None] = lambda host: None
        """Told of each step of a host before it is done; may kill or pause it."""

    def time(self) -> float:
        return self._now

    def _run_once(self) -> None:
        self._due()
        if not self._ready:
            if not self._scheduled:
                raise Deadlock
            self._now = max(self._now, self._scheduled[0].when())
            self._due()
        handle = self._pick()
        if handle is None or handle.cancelled():
            return
        host = handle._context.get(HOST)
        if host is not None:
            self.steps += 1
            if self.steps == self._most_steps:
                raise Deadlock
            self.before_step(host)
            if host.paused or not host.alive:
                host.held.append(handle)
                return
        handle._run()

    def _due(self) -> None:
        while self._scheduled and (self._scheduled[0].cancelled() or self._scheduled[0].when() <= self._now):
            handle = heapq.heappop(self._scheduled)
            handle._scheduled = False  # type: ignore[attr-defined]
            if not handle.cancelled():
                self._ready.append(handle)

    def _pick(self) -> Any:
        if not self._ready:
            return None
        chosen = self._chance.randrange(len(self._ready))
        self._ready[chosen], self._ready[-1] = self._ready[-1], self._ready[chosen]
        return self._ready.pop()

    def resume(self, host: Host) -> None:
        """SIGCONT: what became ready meanwhile is ready now."""
        host.paused = False
        held, host.held = host.held, []
        self._ready.extend(held)

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Cancelled timers are dropped when their time comes."""

    def _write_to_self(self) -> None:
        """There is no other thread to be woken from."""

    def _process_events(self, event_list: Any) -> None:
        """There is no input and output."""
