"""How long alerts lasted before anything was automated, from the ALERTS series that Prometheus writes by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta

from remediator.clients.endpoints import Endpoint
from remediator.clients.prometheus.client import Prometheus, Series
from remediator.errors import ClientError
from remediator.reporting.period.statistics import Lasted

_STEP = timedelta(seconds=30)


def from_prometheus(endpoint: Endpoint, reach: timedelta) -> Lasted:
    """Ask a Prometheus how long alerts lasted in so long a time before an instant; nothing if it does not answer.

    A report without the time before is still a report, so errors are not raised.
    """

    def lasted(alertnames: Sequence[str], until: datetime) -> Sequence[float]:
        try:
            return asyncio.run(_ask(endpoint, alertnames, until - reach, until))
        except ClientError:
            return []

    return lasted


async def _ask(endpoint: Endpoint, alertnames: Sequence[str], since: datetime, until: datetime) -> list[float]:
    prometheus = Prometheus(endpoint)
    try:
        found: list[Series] = []
        for name in alertnames:
            found += await prometheus.firing_history({"alertname": name}, since, until, _STEP)
        return list(durations(found, _STEP))
    finally:
        await prometheus.aclose()


def durations(found: Iterable[Series], step: timedelta) -> Iterator[float]:
    """Seconds of every stretch without a gap, in all series; exact to one step."""
    for series in found:
        times = [at for at, _ in series.points]
        if not times:
            continue
        start = last = times[0]
        for at in times[1:]:
            if at - last > step * 1.5:
                yield (last - start + step).total_seconds()
                start = at
            last = at
        yield (last - start + step).total_seconds()
