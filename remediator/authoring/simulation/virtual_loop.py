"""An event loop with a virtual clock. It jumps to the next timer and picks a random callback among the ready ones.

Every callback belongs to a host (a process that can be paused or killed) or to the environment. Callbacks of a paused
host wait until the host resumes. Callbacks of a dead host never run. A crash can therefore happen between any two steps
of a task, and no ``finally`` block runs then, as with kill -9.
"""

from __future__ import annotations

import asyncio
import heapq
import random
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar
from typing import Any


class Host:
    """A simulated process."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.alive = True
        self.paused = False
        self.held: list[asyncio.Handle] = []
        self.offset = 0.0
        """Clock error in seconds."""


HOST: ContextVar[Host | None] = ContextVar("host", default=None)


class Deadlock(Exception):
    """Nothing is ready and no timer is set, or the loop exceeded its number of steps."""


MOST_STEPS = 60_000
"""Limit for one schedule, which takes a few thousand steps. More steps mean an endless loop."""


class VirtualLoop(asyncio.BaseEventLoop):
    """The event loop.

    Args:
        chance: random generator for the order; the same seed gives the same order.
        most_steps: number of steps after which :class:`Deadlock` is raised.
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
        """Called before each step of a host; it may kill or pause the host."""

    def time(self) -> float:
        return self._now

    def end(self) -> None:
        """Cancel all tasks, again as long as some go on, and close the loop."""
        with suppress(Deadlock):
            while left := asyncio.all_tasks(self):
                for task in left:
                    task.cancel()
                self.run_until_complete(asyncio.wait(left, timeout=1.0))
        self.close()

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
        chosen = int(self._chance.random() * len(self._ready))  # four times as fast as randrange
        self._ready[chosen], self._ready[-1] = self._ready[-1], self._ready[chosen]
        return self._ready.pop()

    def resume(self, host: Host) -> None:
        """Resume a paused host, as SIGCONT does. Callbacks that became ready in the meantime are ready now."""
        host.paused = False
        held, host.held = host.held, []
        self._ready.extend(held)

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Do nothing: :meth:`_due` drops cancelled timers."""

    def _write_to_self(self) -> None:
        """Do nothing: there is no other thread."""

    def _process_events(self, event_list: Any) -> None:
        """Do nothing: there is no input and output."""
