"""Admission control: a worker with too many requests rejects new ones at once."""

from collections.abc import Iterator
from contextlib import contextmanager

from app.metrics import Metrics


class OverloadedError(Exception):
    """The worker has reached its limit of concurrent requests."""


class Admission:
    """Limit the concurrent requests of one worker. Health and metrics are not limited."""

    def __init__(self, limit: int, metrics: Metrics) -> None:
        self._limit = limit
        self._metrics = metrics
        self._in_flight = 0

    @contextmanager
    def enter(self) -> Iterator[None]:
        """Count one request. Raise OverloadedError if the limit is reached."""
        if self._in_flight >= self._limit:
            raise OverloadedError(f"{self._limit} requests in flight")
        self._in_flight += 1
        self._metrics.in_progress.inc()
        try:
            yield
        finally:
            self._in_flight -= 1
            self._metrics.in_progress.dec()
