"""What an alert's rule measures, over time: for the chart on a run's page, and the small one in a message."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from datetime import datetime, timedelta

from remediator.clients.prometheus.client import Prometheus
from remediator.errors import RemediatorError
from remediator.reporting import charts_png
from remediator.storage import Store
from remediator.storage.repositories import episodes

Line = Sequence[tuple[datetime, float]]

_COMPARISON = re.compile(
    r"^(?P<left>.+?)\s*(?:==|!=|<=|>=|<|>)\s*(?:bool\s+)?(?P<right>-?\d+(?:\.\d+)?(?:e-?\d+)?)$", re.S
)
_HOUR = timedelta(hours=1)
_POINTS = 120
_PATIENCE = 2.0
"""Seconds that a message waits for its chart; then it goes without."""


def compared(expression: str) -> tuple[str, float | None]:
    """An alert's expression as what is measured and the number that it is compared with, where it is that simple."""
    text = expression.strip()
    match = _COMPARISON.match(text)
    if match is None or re.search(r"\b(and|or|unless)\b|[<>]|==|!=(?![~\"'])", re.sub(r"\{[^}]*\}", "", match["left"])):
        return text, None
    return match["left"], float(match["right"])


async def measured(
    prometheus: Prometheus, alertname: str, start: datetime, end: datetime, points: int
) -> tuple[list[Line], float | None]:
    """The lines of an alert's expression between two instants, and the limit that it is compared with, if there is one.

    Raises:
        RemediatorError: Prometheus does not answer, or has no such rule.
    """
    expression, limit = compared(await _expression(prometheus, alertname))
    step = timedelta(seconds=max(1, int((end - start).total_seconds() // points)))
    return [item.points for item in await prometheus.query_range(expression, start, end, step)], limit


async def _expression(prometheus: Prometheus, alertname: str) -> str:
    for group in await prometheus.alert_rules():
        for rule in group.rules:
            if rule.name == alertname:
                return rule.query
    raise RemediatorError(f"Prometheus has no rule for {alertname}")


async def last_hour(prometheus: Prometheus, store: Store, run_id: str, now: datetime) -> bytes:
    """The expression of a run's first alert over the last hour, as a small PNG; empty where that cannot be had soon:
    no message waits for its picture."""
    alerts = await store.read(lambda connection: episodes.list_for_run(connection, run_id))
    if not alerts:
        return b""
    try:
        async with asyncio.timeout(_PATIENCE):
            lines, limit = await measured(prometheus, alerts[0].alertname, now - _HOUR, now, _POINTS)
    except (RemediatorError, TimeoutError):
        return b""
    return charts_png.line_chart(lines, now - _HOUR, now, limit) if any(lines) else b""
