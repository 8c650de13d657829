"""A bounded queue with its own thread: an observer of a run never delays it (promise 14)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from threading import Condition, Thread
from typing import Generic, TypeVar

T = TypeVar("T")


def _one(item: object) -> int:
    return 1


class BackgroundQueue(Generic[T]):
    """Calls a function with each item, in order. An item is lost and counted if the function raises or is too slow.

    Args:
        name: of the thread.
        process: called with each item, in the thread.
        limit: total size of the items that wait; more are lost.
        too_slow: the error of an item that is lost because of the limit.
        size: returns the size of an item; its number by default.
        count: returns how much is lost with an item.
    """

    def __init__(
        self,
        name: str,
        process: Callable[[T], None],
        limit: int,
        too_slow: str,
        size: Callable[[T], int] = _one,
        count: Callable[[T], int] = _one,
    ) -> None:
        self._name, self._process, self._limit, self._too_slow = name, process, limit, too_slow
        self._size_of, self._count_of = size, count
        self._waiting: deque[T] = deque()
        self._size = 0
        self._busy = False
        self._changed = Condition()
        self._thread: Thread | None = None
        self.lost = 0
        """How much was lost since the start."""
        self.error = ""
        """Why the last item was lost; empty if it was not."""

    def put(self, item: T) -> None:
        """Put an item into the queue; return at once."""
        with self._changed:
            if self._thread is None:  # a command without observers needs no thread
                self._thread = Thread(target=self._serve, name=self._name, daemon=True)
                self._thread.start()
            if self._size + self._size_of(item) > self._limit:
                self.lost += self._count_of(item)
                self.error = self._too_slow
            else:
                self._waiting.append(item)
                self._size += self._size_of(item)
            self._changed.notify_all()

    def count_lost(self, error: str) -> None:
        """Count an item that was never put into the queue."""
        with self._changed:
            self.lost += 1
            self.error = error

    def drain(self, seconds: float = 1.0) -> bool:
        """Wait until every item is processed or lost, at most ``seconds``. Return whether it is."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._waiting and not self._busy, seconds)

    def _serve(self) -> None:
        while True:
            with self._changed:
                self._busy = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: bool(self._waiting))
                item = self._waiting.popleft()
                self._size -= self._size_of(item)
                self._busy = True
            error = ""
            try:
                self._process(item)
            except OSError as failure:
                error = failure.strerror or repr(failure)
            except Exception as failure:  # noqa: BLE001 - whatever an observer does, the next item is processed
                error = repr(failure)
            with self._changed:
                self.lost += self._count_of(item) if error else 0
                self.error = error
