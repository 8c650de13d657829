"""Observers of the pipeline's events, such as logs and metrics, in a thread of their own.

An observer that raises, hangs or is slow never holds up the run that it observes. What it cannot keep up with is
dropped and counted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from threading import Condition, Thread
from typing import Any

import structlog

from remediator.core.run import Run
from remediator.runtime.metrics import Metrics

log: Any = structlog.get_logger("remediator")
Observer = Callable[[str, Run, Mapping[str, Any]], None]
MAX_WAITING = 10_000
"""Events that wait for a slow observer; more are lost."""


class EventObservers:
    """Passes each event to all observers, in order.

    Args:
        observers: called with the kind of the event, the run and the data.
        max_waiting: events that wait at most.
    """

    def __init__(self, observers: Sequence[Observer], max_waiting: int = MAX_WAITING) -> None:
        self._observers = observers
        self._max_waiting = max_waiting
        self._waiting: deque[tuple[str, Run, Mapping[str, Any]]] = deque()
        self._busy = False
        self._changed = Condition()
        self.lost = 0
        """Events that an observer did not get since the start."""
        self.error = ""
        """Why the last event was lost; empty if it was not."""
        self._thread: Thread | None = None

    def __call__(self, kind: str, run: Run, data: Mapping[str, Any]) -> None:
        """Put an event into the queue; return at once."""
        with self._changed:
            if self._thread is None:  # commands that only read need no thread
                self._thread = Thread(target=self._serve, name="events", daemon=True)
                self._thread.start()
            if len(self._waiting) >= self._max_waiting:
                self.lost += 1
                self.error = "an observer of events is too slow"
            else:
                self._waiting.append((kind, run, data))
            self._changed.notify_all()

    def drain(self, seconds: float = 0.5) -> bool:
        """Wait until the observers have all events, at most for some seconds. Return whether they have."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._waiting and not self._busy, seconds)

    def _serve(self) -> None:
        while True:
            with self._changed:
                self._busy = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: bool(self._waiting))
                event = self._waiting.popleft()
                self._busy = True
            failures = [error for observer in self._observers if (error := _call(observer, event)) is not None]
            with self._changed:
                self.lost += len(failures)
                self.error = repr(failures[0]) if failures else ""


def _call(observer: Observer, event: tuple[str, Run, Mapping[str, Any]]) -> Exception | None:
    try:
        observer(*event)
    except Exception as error:  # noqa: BLE001 - whatever an observer does, the others get the event
        return error
    return None


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
