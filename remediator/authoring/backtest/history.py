"""Read a history from stored notifications, or from the ``ALERTS`` series of Prometheus."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from sqlalchemy import Connection

from remediator.authoring.backtest import Event, History
from remediator.clients.prometheus.client import Prometheus
from remediator.core.clock import rfc3339
from remediator.storage.repositories import inbox

_SERIES_LABELS = frozenset({"__name__", "alertstate"})
_NEVER = "0001-01-01T00:00:00Z"


def stored_history(connection: Connection, start: datetime, end: datetime) -> History:
    """Return the notifications that were received in this period."""
    found = inbox.list_received_between(connection, start, end)
    events = tuple(Event(item.received_at, item.body, item.source) for item in found)
    return History(start, end, events, "stored notifications")


async def prometheus_history(
    prometheus: Prometheus, start: datetime, end: datetime, step: timedelta, watchdog: str = "Watchdog"
) -> History:
    """Return notifications for the ``ALERTS`` series. An alert that fires at two consecutive steps fired between them.

    Args:
        prometheus: the Prometheus to query.
        start: start of the period.
        end: end of the period.
        step: resolution; an alert that fires for a shorter time can be missed.
        watchdog: name of the alert that always fires; it is left out.
    """
    found = await prometheus.firing_history({}, start, end, step)
    events = []
    for series in found:
        labels = {name: value for name, value in series.labels.items() if name not in _SERIES_LABELS}
        if not labels.get("alertname") or labels["alertname"] == watchdog:
            continue
        for first, last in _spans([at for at, _ in series.points], step):
            events.append(Event(first, _notification(labels, first, None)))
            if last + step <= end:  # otherwise it still fires at the end of the period
                events.append(Event(last + step, _notification(labels, first, last + step)))
    ordered = sorted(events, key=lambda event: event.at)
    return History(start, end, tuple(ordered), f"ALERTS of {prometheus.url}")


def _spans(points: Sequence[datetime], step: timedelta) -> Iterator[tuple[datetime, datetime]]:
    first = last = None
    for at in points:
        if first is None or last is None:
            first = at
        elif at - last > step * 1.5:
            yield first, last
            first = at
        last = at
    if first is not None and last is not None:
        yield first, last


def _notification(labels: dict[str, str], starts: datetime, ends: datetime | None) -> bytes:
    alert = {
        "status": "firing" if ends is None else "resolved",
        "labels": labels,
        "startsAt": rfc3339(starts),
        "endsAt": _NEVER if ends is None else rfc3339(ends),
    }
    return json.dumps({"version": "4", "receiver": "history", "alerts": [alert]}).encode()
