"""How long alerts lasted before remediation was automatic, from the ``ALERTS`` series of Prometheus."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from contextlib import aclosing
from datetime import UTC, datetime, timedelta

from remediator.clients.endpoints import Endpoint
from remediator.clients.prometheus.client import Prometheus, Series
from remediator.errors import ClientError
from remediator.reporting.period.statistics import DurationSource

_STEP = timedelta(seconds=30)
_FIRST = datetime.min.replace(tzinfo=UTC)


def from_prometheus(endpoint: Endpoint, reach: timedelta) -> DurationSource:
    """Return a function that queries Prometheus for alert durations in the time ``reach`` before an instant.

    If Prometheus does not answer, the function returns nothing: a report without earlier durations is still useful.
    """

    async def query(alertnames: Sequence[str], until: datetime) -> list[float]:
        async with aclosing(Prometheus(endpoint)) as prometheus:
            found: list[Series] = []
            since = until - min(reach, until - _FIRST)
            for name in alertnames:
                found += await prometheus.firing_history({"alertname": name}, since, until, _STEP)
            return list(durations(found, _STEP))

    def durations_before(alertnames: Sequence[str], until: datetime) -> Sequence[float]:
        try:
            return asyncio.run(query(alertnames, until))
        except ClientError:
            return []

    return durations_before


def durations(found: Iterable[Series], step: timedelta) -> Iterator[float]:
    """Yield the seconds of every stretch without a gap, in all series. Exact to one step."""
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
