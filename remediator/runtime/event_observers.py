"""Observers of the pipeline's events, such as logs and metrics, each in a separate thread.

An observer that raises an exception, hangs or is slow never delays the run that it observes. Events that do not fit
into its queue are dropped and counted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import structlog

from remediator.core.run import Run
from remediator.runtime.background_queue import BackgroundQueue
from remediator.runtime.metrics import Metrics

log: Any = structlog.get_logger("remediator")
Observer = Callable[[str, Run, Mapping[str, Any]], None]
_Event = tuple[str, Run, Mapping[str, Any]]
MAX_WAITING = 10_000
"""Maximum number of events that wait for one observer; more are lost."""


class EventObservers:
    """Passes each event to all observers, in order. Each observer has its own queue, so no observer waits for another.

    Args:
        observers: called with the kind of the event, the run and the data.
        max_waiting: maximum number of events that wait for one observer.
    """

    def __init__(self, observers: Sequence[Observer], max_waiting: int = MAX_WAITING) -> None:
        self._queues = [
            BackgroundQueue("events", partial(_pass, observer), max_waiting, "an observer of events is too slow")
            for observer in observers
        ]

    def __call__(self, kind: str, run: Run, data: Mapping[str, Any]) -> None:
        """Put an event into the queues; return at once."""
        for queue in self._queues:
            queue.put((kind, run, data))

    @property
    def lost(self) -> int:
        """Return how many events an observer did not get since the start."""
        return sum(queue.lost for queue in self._queues)

    @property
    def error(self) -> str:
        """Return why an observer did not get the last event; an empty text if all got it."""
        return next((queue.error for queue in self._queues if queue.error), "")

    def drain(self, seconds: float = 0.5) -> bool:
        """Wait until the observers have all events, at most ``seconds`` for each. Return whether they have."""
        return all([queue.drain(seconds) for queue in self._queues])


def _pass(observer: Observer, event: _Event) -> None:
    observer(*event)


def count_event(metrics: Metrics, kind: str, run: Run, data: Mapping[str, Any]) -> None:
    """Count an event in the metrics."""
    if kind == "action":
        metrics.actions.labels(run.playbook, run.target).inc()
        if run.first_action_at is not None:
            metrics.first_action.observe((run.first_action_at - run.created_at).total_seconds())
    else:
        metrics.transitions.labels(run.playbook, run.status.value, run.blocked_by or run.reason or "").inc()


def log_event(kind: str, run: Run, data: Mapping[str, Any]) -> None:
    """Log an event."""
    about = {"playbook": run.playbook, "target": run.target, "run": run.id}
    if kind == "action":
        log.info("action started", call=data["call"], step=data["step"], **about)
    else:
        reason = run.detail.summary or run.reason
        because = {"reason": reason} if reason else {}
        log.info("run changed status", status=run.status.value, previous=data["from"], **about, **because)
