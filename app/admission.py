"""Admission: a worker that is full says so at once instead of letting everybody wait."""

from collections.abc import Iterator
from contextlib import contextmanager


class OverloadedError(Exception):
    """This worker already has as many requests in hand as it may."""


class Admission:
    """Bounds the requests in hand of one worker; health and metrics are never refused."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._in_flight = 0

    @contextmanager
    def enter(self) -> Iterator[None]:
        """Raises OverloadedError when the worker is full."""
        if self._in_flight >= self._limit:
            raise OverloadedError(f"{self._limit} requests in flight")
        self._in_flight += 1
        try:
            yield
        finally:
            self._in_flight -= 1
