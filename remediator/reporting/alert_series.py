"""The values of an alert's expression over time, for the chart of a run and the small chart in a message."""

from __future__ import annotations

import asyncio
import re
from datetime import datetime, timedelta

from remediator.clients.prometheus.client import Prometheus
from remediator.core.run import EpisodeKind
from remediator.errors import RemediatorError
from remediator.reporting.charts import Line, line_chart_png
from remediator.storage import Store
from remediator.storage.repositories import episodes

_COMPARISON = re.compile(
    r"^(?P<left>.+?)\s*(?:==|!=|<=|>=|<|>)\s*(?:bool\s+)?(?P<right>-?\d+(?:\.\d+)?(?:e-?\d+)?)$", re.S
)
_HOUR = timedelta(hours=1)
_POINTS = 120
_TIMEOUT = 2.0
"""Seconds that a message waits for its chart."""


def split_comparison(expression: str) -> tuple[str, float | None]:
    """Split an alert's expression into the measured value and the limit; the limit is None for other expressions."""
    text = expression.strip()
    match = _COMPARISON.match(text)
    if match is None or re.search(r"\b(and|or|unless)\b|[<>]|==|!=(?![~\"'])", re.sub(r"\{[^}]*\}", "", match["left"])):
        return text, None
    return match["left"], float(match["right"])


async def query_alert(
    prometheus: Prometheus, alertname: str, start: datetime, end: datetime, points: int
) -> tuple[list[Line], float | None]:
    """Return the series of an alert's expression between two instants, and the limit or None.

    Raises:
        RemediatorError: Prometheus does not answer, or has no such rule.
    """
    rules = [rule for group in await prometheus.alert_rules() for rule in group.rules if rule.name == alertname]
    if not rules:
        raise RemediatorError(f"Prometheus has no alerting rule {alertname!r}")
    expression, limit = split_comparison(rules[0].query)
    step = timedelta(seconds=max(1, int((end - start).total_seconds() // points)))
    return [item.points for item in await prometheus.query_range(expression, start, end, step)], limit


async def last_hour_png(prometheus: Prometheus, store: Store, run_id: str, now: datetime) -> bytes:
    """Return a PNG of the first alert of a run over the last hour.

    Return empty bytes if the data does not arrive within two seconds: no message waits longer for its chart.
    """
    found = await store.read(lambda connection: episodes.list_for_run(connection, run_id))
    alerts = [item for item in found if item.kind is EpisodeKind.ALERT]
    if not alerts:
        return b""
    try:
        async with asyncio.timeout(_TIMEOUT):
            lines, limit = await query_alert(prometheus, alerts[0].alertname, now - _HOUR, now, _POINTS)
    except (RemediatorError, TimeoutError):
        return b""
    return line_chart_png(lines, now - _HOUR, now, limit) if any(lines) else b""
