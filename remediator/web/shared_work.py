"""Work that readers at the same time share, so that reloading a page puts no load on the store or on a target."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class SharedWork(Generic[T]):
    """Does the work of a key once for all callers during the work, and for some time after its beginning.

    Args:
        what: names the work, for the tasks.
        life: seconds from the beginning for which a result is used again. A failure is never used again.
    """

    def __init__(self, what: str, life: float = 0.0) -> None:
        self._what, self._life = what, life
        self._tasks: dict[str, asyncio.Task[T]] = {}

    def start(self, key: str, work: Callable[[], Coroutine[Any, Any, T]]) -> asyncio.Task[T]:
        """Return the task of a key; begin the work if there is no task whose result can be used."""
        task = self._tasks.get(key)
        if task is None:
            loop = asyncio.get_running_loop()
            task = self._tasks[key] = loop.create_task(work(), name=f"{self._what} {key}".rstrip())
            task.add_done_callback(partial(self._forget, key, loop.time() + self._life))
        return task

    async def get(self, key: str, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Return the result of the work of a key. A reader who leaves does not cancel the work for other readers."""
        return await asyncio.shield(self.start(key, work))

    def _forget(self, key: str, until: float, done: asyncio.Task[T]) -> None:
        loop = asyncio.get_running_loop()
        if loop.time() >= until or done.cancelled() or done.exception() is not None:
            del self._tasks[key]
        else:
            loop.call_at(until, self._tasks.pop, key)
