"""An event loop with a virtual clock. It jumps to the next timer and picks a random callback among the ready ones."""

from __future__ import annotations

import asyncio
import heapq
import math
import random
from contextlib import suppress
from typing import Any


class Deadlock(Exception):
    """Nothing is ready and no timer is set, or the loop exceeded its number of steps."""


class VirtualLoop(asyncio.BaseEventLoop):
    """The event loop.

    Args:
        chance: random generator for the order; the same seed gives the same order.
        most_steps: number of steps after which :class:`Deadlock` is raised.
    """

    _ready: Any
    _scheduled: list[asyncio.TimerHandle]

    def __init__(self, chance: random.Random, most_steps: float = math.inf) -> None:
        super().__init__()
        self._ready = []
        self._chance = chance
        self._most_steps = most_steps
        self._now = 0.0
        self.steps = 0

    def time(self) -> float:
        return self._now

    def end(self) -> None:
        """Cancel all tasks, repeat this while tasks still run, and close the loop."""
        with suppress(Deadlock):
            while left := asyncio.all_tasks(self):
                for task in left:
                    task.cancel()
                self.run_until_complete(asyncio.wait(left, timeout=1.0))
        self.close()

    def run_step(self, handle: asyncio.Handle) -> None:
        """Run one callback.

        Raises:
            Deadlock: it is one too many.
        """
        self.count_step()
        handle._run()

    def count_step(self) -> None:
        """Count a step.

        Raises:
            Deadlock: it is one too many.
        """
        self.steps += 1
        if self.steps == self._most_steps:
            raise Deadlock

    def _run_once(self) -> None:
        self._due()
        if not self._ready:
            if not self._scheduled:
                raise Deadlock
            self._now = max(self._now, self._scheduled[0].when())
            self._due()
        if self._ready:
            chosen = int(self._chance.random() * len(self._ready))  # this is four times as fast as randrange
            self._ready[chosen], self._ready[-1] = self._ready[-1], self._ready[chosen]
            handle = self._ready.pop()
            if not handle.cancelled():
                self.run_step(handle)

    def _due(self) -> None:
        while self._scheduled and (self._scheduled[0].cancelled() or self._scheduled[0].when() <= self._now):
            handle = heapq.heappop(self._scheduled)
            handle._scheduled = False  # type: ignore[attr-defined]
            if not handle.cancelled():
                self._ready.append(handle)

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Do nothing: :meth:`_due` drops cancelled timers."""

    def _write_to_self(self) -> None:
        """Do nothing: there is no other thread."""

    def _process_events(self, event_list: Any) -> None:
        """Do nothing: there is no input and output."""
